"""Times as an operator types them: a moment, or how long."""

import re
from datetime import UTC, datetime, timedelta

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=36525)
"""A century: whoever means longer means for ever."""


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
    if text[-1:] in UNITS:
        return datetime.now(UTC) - parse_duration(text)
    return parse_moment(text)
