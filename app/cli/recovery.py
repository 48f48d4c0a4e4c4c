"""`scopegate recover`: continue with a database that went back to an older timeline."""

import asyncio
from dataclasses import asdict

from app.cli.console import AsJson, Yes, confirm, end_progress, show, show_progress
from app.cli.times import written
from app.ops import recovery
from app.ops.recovery import Recovery, find_loss
from app.runtime import Runtime
from app.settings import Settings


def recover(yes: Yes = False, as_json: AsJson = False) -> None:
    """Go on with a database that went back to an older timeline: end all sessions of all users.

    Only where the server that has the newer timeline is gone for good.
    """
    found = asyncio.run(_recover(yes=yes))
    show(
        asdict(found),
        as_json,
        f"Ended all sessions of {found.users} users. What was committed on timeline "
        f"{found.timeline} is lost. It was last seen at {written(found.seen_at)}: look through the "
        "logs from before that time for users that were disabled, grants and secrets that were "
        "revoked, and passwords that were changed, and do it again.",
    )


async def _recover(*, yes: bool) -> Recovery:
    async with Runtime.open(Settings(), recovering=True) as runtime:
        lost = await find_loss(runtime)
        confirm(
            f"What was committed on timeline {lost.timeline} is lost, and all users are signed out",
            yes=yes,
        )
        found = await recovery.recover(
            runtime, lost, lambda users: show_progress(f"{users} users signed out")
        )
        end_progress()
        return found
