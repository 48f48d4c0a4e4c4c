"""Lists by pages, which the last row's key tells apart (keyset pagination)."""

from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

T = TypeVar("T")
K = TypeVar("K")


async def paginate(
    db: AsyncSession,
    statement: Select[Any],
    key: InstrumentedAttribute[K],
    *,
    after: K | None,
    limit: int | None,
    descending: bool = False,
) -> list[Any]:
    """Return up to `limit` of the statement's rows, in the order of this unique key.

    `after` is the key of the row that the page before ended with; it need not exist any more.
    """
    if after is not None:
        statement = statement.where(key < after if descending else key > after)
    order = key.desc() if descending else key.asc()
    return list(await db.scalars(statement.order_by(order).limit(limit)))
