"""Remarks: the reason of a grant, the description of a scope."""

from app.db.base import is_storable
from app.errors import Refused

MAX_REMARK = 500


def check_remark(text: str) -> None:
    """Return only if it can be kept, and shown in full. Raises Refused."""
    if len(text) > MAX_REMARK:
        raise Refused(f"A reason or a description has at most {MAX_REMARK} characters.")
    if not is_storable(text):
        raise Refused("A reason or a description is text: no NUL and no broken characters.")
