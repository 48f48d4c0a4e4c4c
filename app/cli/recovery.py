"""`scopegate recover`: continue with a database that went back to an older timeline."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from app.cli.console import (
    AsJson,
    Output,
    Yes,
    confirm,
    end_progress,
    operator,
    say_where_no_service_runs,
    show_progress,
)
from app.cli.times import written

if TYPE_CHECKING:
    from app.ops.recovery import Recovery


def recover(yes: Yes = False, as_json: AsJson = False) -> None:
    """Go on with a database that went back in time.

    Ends all sessions of all users. Only where the server that has the newer timeline is gone for
    good.
    """
    found = asyncio.run(_recover(yes=yes))
    text = (
        f"Ended all sessions of {found.users} users. What was committed on timeline "
        f"{found.timeline} is lost. It was last seen at {written(found.seen_at)}: look through the "
        "logs from before that time for users that were disabled, grants and secrets that were "
        "revoked, and passwords that were changed, and do it again."
    )
    Output(asdict(found), text).print(as_json=as_json)


async def _recover(*, yes: bool) -> Recovery:
    from app.ops import recovery
    from app.runtime import Runtime
    from app.settings import Settings

    settings = Settings()
    say_where_no_service_runs(settings)
    async with Runtime.open(settings, recovering=True) as runtime:
        lost = await recovery.find_loss(runtime)
        confirm(
            f"What was committed on timeline {lost.timeline} is lost, and all users are signed out",
            yes=yes,
        )
        found = await recovery.recover(
            runtime,
            lost,
            by=operator(),
            report=lambda users: show_progress(f"{users} users signed out"),
        )
        end_progress()
        return found
