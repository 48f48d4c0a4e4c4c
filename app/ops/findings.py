"""What a check of the doctor's found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do if something is wrong."""

    check: str
    state: Literal["ok", "warning", "wrong"]
    found: str
    remedy: str | None = None
