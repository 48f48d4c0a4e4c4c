"""A clock that tests move, so that none has to sleep."""

from datetime import UTC, datetime, timedelta


class MovableClock:
    """Tells the real time, plus what it was moved by."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def move(self, **by: float) -> None:
        """Move the clock, by timedelta's words: `clock.move(minutes=5)`."""
        self._offset += timedelta(**by)


class StandingClock(MovableClock):
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self._moment = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self._moment + self._offset
