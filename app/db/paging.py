"""Lists by pages, which the last row's key tells apart (keyset pagination)."""

from functools import cached_property
from typing import Any, Generic, TypeVar

from sqlalchemy import Integer, Select, bindparam
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

K = TypeVar("K")


class Pages(Generic[K]):
    """The pages of a list, in the order of a unique key: statements that are built once.

    To build a statement takes longer than to run it.
    """

    def __init__(
        self, statement: Select[Any], key: InstrumentedAttribute[K], *, descending: bool = False
    ) -> None:
        order = key.desc() if descending else key.asc()
        self._first = statement.order_by(order).limit(bindparam("page_limit", type_=Integer()))
        self._key, self._descending = key, descending

    @cached_property
    def _later(self) -> Select[Any]:
        after = bindparam("page_after", type_=self._key.type)
        return self._first.where(self._key < after if self._descending else self._key > after)

    async def rows(
        self, db: AsyncSession, *, after: K | None, limit: int | None, **values: object
    ) -> list[Any]:
        """Return up to `limit` rows: those after this key, with these values of the statement.

        `after` is the key of the row that the page before ended with; it need not exist any more.
        """
        values["page_limit"] = limit
        if after is None:
            return list(await db.execute(self._first, values))
        return list(await db.execute(self._later, {**values, "page_after": after}))


async def paginate(
    db: AsyncSession,
    statement: Select[Any],
    key: InstrumentedAttribute[K],
    *,
    after: K | None,
    limit: int | None,
    descending: bool = False,
) -> list[Any]:
    """Return a page of a statement that selects one thing, and differs from request to request."""
    pages = Pages(statement, key, descending=descending)
    return [each for (each,) in await pages.rows(db, after=after, limit=limit)]
