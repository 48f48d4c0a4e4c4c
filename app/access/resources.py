"""Resources: the services that tokens are for (RFC 8707). A scope may belong to one.

A token for a resource names it as its audience, and has the scopes of that resource alone.
"""

import re
from collections.abc import Collection
from collections.abc import Set as AbstractSet

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Scope
from app.access.scopes import IDENTITY
from app.errors import InvalidTarget

MAX_RESOURCE = 2000
"""Characters."""
MAX_RESOURCES = 20
"""Of one authorization request."""
RESOURCE = r"[A-Za-z][A-Za-z0-9+.\-]*:[A-Za-z0-9\-._~:/?@!$&'()*+,;=%\[\]]+"


def is_resource(uri: str) -> bool:
    """Return whether it is an absolute URI without a fragment (RFC 8707 §2)."""
    return len(uri) <= MAX_RESOURCE and re.fullmatch(RESOURCE, uri) is not None


async def scopes_of_resources(
    db: AsyncSession, resources: Collection[str]
) -> dict[str, frozenset[str]]:
    """Return the scopes of each of these resources. Raises InvalidTarget for one without any."""
    asked = [each for each in resources if is_resource(each)]
    found: dict[str, set[str]] = {}
    statement = select(Scope.resource, Scope.name).where(Scope.resource.in_(asked))
    for resource, name in await db.execute(statement):
        found.setdefault(str(resource), set()).add(name)
    if found.keys() != set(resources):
        raise InvalidTarget
    return {resource: frozenset(names) for resource, names in found.items()}


async def within_resources(
    db: AsyncSession, scopes: AbstractSet[str], resources: Collection[str]
) -> frozenset[str]:
    """Return those of the scopes that belong to one of the resources; all, if none is named.

    Those of OpenID Connect stay. Raises InvalidTarget.
    """
    if not resources:
        return frozenset(scopes)
    of_each = await scopes_of_resources(db, resources)
    return frozenset(scopes) & frozenset().union(*of_each.values(), IDENTITY.keys())


def choose_resource(resources: Collection[str] | None, named: str | None) -> str | None:
    """Return the one resource that a token is for: the one named, or the only one there is.

    `resources` are those that the person has agreed to. None: the token is for no resource. Raises
    InvalidTarget for one that is not among them, or when several are and none is named.
    """
    allowed = list(resources or ())
    if named is None and len(allowed) <= 1:
        return allowed[0] if allowed else None
    if named is None or named not in allowed:
        raise InvalidTarget
    return named
