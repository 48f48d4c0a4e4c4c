"""What the bodies and parameters of several routes have in common."""

import re
from datetime import UTC, datetime
from typing import Annotated, Generic, Self, TypeVar
from urllib.parse import quote

from fastapi import Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
)
from starlette.convertors import Convertor, register_url_convertor

from app.access.client_documents import MOST_CHARACTERS as MAX_CLIENT_ID
from app.access.grants import MAX_REMARK
from app.access.scopes import MAX_SCOPE, SCOPE_TOKEN, is_scope_name
from app.db.base import is_storable
from app.views import Listed


class ScopeInPath(Convertor[str]):
    """A scope's name at the end of a path, with slashes in it: as `%2F`, or as they are."""

    # Starlette's own `path` would leave out a line's end, and so act on another scope.
    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        """Return the name."""
        return value

    def to_string(self, value: str) -> str:
        """Return the name as it stands in a path."""
        return quote(value, safe="")


register_url_convertor("scope", ScopeInPath())

_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("This is not text: it has a NUL or a broken character.")
    return text


def _scope_name(text: str) -> str:
    if not is_scope_name(text):
        raise ValueError("A scope's name has at least one character, and only RFC 6749's.")
    return text


def _written_out(moment: object) -> object:
    # pydantic takes numbers too, for seconds or milliseconds, whichever seems likelier.
    if isinstance(moment, int | float) or (isinstance(moment, str) and not _DATE.match(moment)):
        raise ValueError("Write a moment as RFC 3339 does: 2027-01-31T18:00:00Z.")
    return moment


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("This moment is out of range.") from None


PageSize = Annotated[int, Query(ge=1, le=100, description="At most how many to answer.")]
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]
Text = Annotated[
    str, AfterValidator(_storable), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})
]
ScopeName = Annotated[
    str,
    AfterValidator(_scope_name),
    Field(max_length=MAX_SCOPE, json_schema_extra={"pattern": f"^{SCOPE_TOKEN}$"}),
]
ClientId = Annotated[Text, Path(max_length=MAX_CLIENT_ID)]
Remark = Annotated[Text, Field(max_length=MAX_REMARK)]


L = TypeVar("L", bound=Listed)


class Page(BaseModel, Generic[L]):
    """One page of a list; `next` is the `after` of the next one, null on the last.

    Each list has a subclass: OpenAPI, and so generated clients, call it by that name.
    """

    items: list[L]
    next: str | None

    @classmethod
    def of(cls, found: list[L], *, limit: int) -> Self:
        """The page of what was found when one more than `limit` was looked for."""
        items = found[:limit]
        more = len(found) > limit
        return cls(items=items, next=str(getattr(items[-1], items[-1].key)) if more else None)
