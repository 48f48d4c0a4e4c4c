"""Times as an operator types and reads them: a moment, or how long."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=36525)
"""A century: longer means for ever."""


def parse_moment(text: str) -> datetime:
    """A moment by ISO 8601; without an offset from UTC it is this machine's local time."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("a moment is written 2027-01-31T18:00+01:00") from None


def parse_duration(text: str) -> timedelta:
    """How long: 90m, 8h, 1d12h, up to a century."""
    parts = re.findall(r"([0-9]{1,12})([smhdw])", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise typer.BadParameter("how long is written 90m, 8h, 1d12h, 2w")
    try:
        duration = sum((timedelta(**{UNITS[unit]: int(n)}) for n, unit in parts), timedelta())
    except OverflowError:
        duration = timedelta.max
    if not timedelta() < duration <= LONGEST:
        raise typer.BadParameter("it lasts longer than no time, and at most a century")
    return duration


def parse_since(text: str) -> datetime:
    """A moment, or how long ago it was by the clock that the operator sees: this machine's."""
    with suppress(typer.BadParameter):
        return parse_moment(text)
    with suppress(typer.BadParameter):
        return datetime.now(UTC) - parse_duration(text)
    raise typer.BadParameter(
        "write a moment, 2027-01-31 or 2027-01-31T18:00+01:00, or how long ago, 2h or 1d12h"
    )


def written(moment: datetime) -> str:
    """A moment for people: in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
