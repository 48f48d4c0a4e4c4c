"""Register clients, change and delete them. Every function here checks the caller's authority.

A client lets people use what they hold, up to its ceiling. So only a caller who holds the whole
ceiling decides where the client's codes go; `admin` for a trusted one, which asks no person.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from app.access import accounts
from app.access.authority import Caller, confirm_caller, require_ceiling
from app.access.client_documents import is_document_url
from app.access.grants import check_remark
from app.access.redirects import check_redirect_uris
from app.access.scopes import IDENTITY, require_registered
from app.audit.log import record
from app.db.changes import Change
from app.db.work import Work
from app.errors import Conflict, Refused
from app.identity import account_writes
from app.identity.clients import CONSOLE_CLIENT, DOCS_CLIENT, FIRST_PARTY_CLIENT, NewSecret
from app.identity.models import ID_TOKEN_ALGORITHM, Registration
from app.identity.names import normalise_username
from app.identity.registrations import get_registration, require_free_client_id

DESCRIBED = {"name", "redirect_uris", "post_logout_redirect_uris", "trusted"}
"""What no one changes of a client that describes itself."""
LEAST_GRACE, MOST_GRACE = 10, 120
"""Seconds that a client may set as its own refresh grace."""
ID_TOKEN_ALGORITHMS = (ID_TOKEN_ALGORITHM, "ES256", "EdDSA")
"""By a shared secret none can be signed that a client could verify."""


@dataclass(frozen=True, slots=True)
class NewClient:
    """A client to be."""

    name: str
    redirect_uris: Sequence[str]
    client_id: str | None = None
    """None: one is made."""
    post_logout_redirect_uris: Sequence[str] = ()
    scopes: Sequence[str] | None = None
    """None: what the caller holds now; by an admin, every scope but `admin`, also later ones."""
    confidential: bool = False
    trusted: bool = False
    refresh_grace: int | None = None
    id_token_signed_response_alg: str = ID_TOKEN_ALGORITHM


class ClientChanges(TypedDict, total=False):
    """What to change of a client. What is absent stays."""

    name: str
    redirect_uris: Sequence[str]
    post_logout_redirect_uris: Sequence[str]
    scopes: Sequence[str] | None
    trusted: bool
    refresh_grace: int | None
    id_token_signed_response_alg: str


class ShippedClient(Conflict):
    """The service's own pages sign people in by it."""

    text = "This client is a part of Scopegate: it can't be changed or deleted."


async def register_client(
    work: Work[Caller], new: NewClient
) -> tuple[Registration, NewSecret | None]:
    """Register a client, and return it with the secret of a confidential one.

    Raises Refused for an unfit id, name or redirect URI, ScopeNotRegistered, ClientIdTaken,
    UsernameTaken, BeyondAuthority, or what `confirm_caller` raises.
    """
    await confirm_caller(work)
    scopes = await _ceiling(work, new.scopes)
    require_ceiling(work.actor, scopes, trusted=new.trusted)
    client_id = _check_client_id(new.client_id or secrets.token_hex(16))
    await require_free_client_id(work.db, client_id)
    account, secret = None, None
    if new.confidential:
        account, secret = await account_writes.create_service(work, username=client_id)
    registration = Registration(
        client_id=client_id,
        name=_check_name(new.name),
        redirect_uris=_check_redirects(new.redirect_uris),
        post_logout_redirect_uris=check_redirect_uris(new.post_logout_redirect_uris),
        scopes=scopes,
        trusted=new.trusted,
        account_id=account and account.id,
        refresh_grace=_check_grace(new.refresh_grace),
        id_token_signed_response_alg=_check_algorithm(new.id_token_signed_response_alg),
    )
    work.db.add(registration)
    await work.db.flush()
    record(work, "client.created", **_told(registration))
    await work.db.refresh(registration)
    return registration, secret


async def change_client(work: Work[Caller], client_id: str, changes: ClientChanges) -> Registration:
    """Change a client. Tokens that were issued lose what its ceiling loses, at once.

    Raises ClientNotFound, ShippedClient, and what `register_client` raises.
    """
    await confirm_caller(work)
    registration = await _changeable(work, client_id)
    before = _told(registration)
    if is_document_url(client_id) and DESCRIBED & changes.keys():
        raise Refused("This client describes itself: change its scopes, or register another.")
    if "name" in changes:
        registration.name = _check_name(changes["name"])
    if "redirect_uris" in changes:
        registration.redirect_uris = _check_redirects(changes["redirect_uris"])
    if "post_logout_redirect_uris" in changes:
        uris = check_redirect_uris(changes["post_logout_redirect_uris"])
        registration.post_logout_redirect_uris = uris
    if "scopes" in changes:
        registration.scopes = await _ceiling(work, changes["scopes"])
    if "trusted" in changes:
        registration.trusted = changes["trusted"]
    if "refresh_grace" in changes:
        registration.refresh_grace = _check_grace(changes["refresh_grace"])
    if "id_token_signed_response_alg" in changes:
        algorithm = _check_algorithm(changes["id_token_signed_response_alg"])
        registration.id_token_signed_response_alg = algorithm
    require_ceiling(work.actor, registration.scopes, trusted=registration.trusted)
    work.publish(Change("client", registration.id))
    await work.db.flush()
    after = _told(registration)
    if changed := {name: after[name] for name in after if after[name] != before[name]}:
        record(work, "client.changed", client_id=client_id, **changed)
    return registration


async def delete_client(work: Work[Caller], client_id: str) -> None:
    """Delete a client: all its sessions and consents end, and so does a confidential one's account.

    Raises ClientNotFound, ShippedClient, BeyondAuthority, LastAdmin, or what `confirm_caller`
    raises.
    """
    found = await get_registration(work.db, client_id)
    if found.account_id is None:
        await confirm_caller(work)
    else:
        # First: it locks users, who come before all else.
        await accounts.disable(work, found.account_id)
    registration = await _changeable(work, client_id)
    # The row alone: sessions and consents count only with a client. There may be millions.
    registration.deleted_at = work.now
    work.publish(Change("client", registration.id))
    await work.db.flush()
    record(work, "client.deleted", client_id=client_id)


async def _changeable(work: Work[Caller], client_id: str) -> Registration:
    """Return the client if the caller may change it. Until the commit, no one else does.

    Raises ClientNotFound, ShippedClient, or BeyondAuthority.
    """
    found = await get_registration(work.db, client_id, lock=True)
    if client_id in {CONSOLE_CLIENT, DOCS_CLIENT}:
        raise ShippedClient
    require_ceiling(work.actor, found.scopes, trusted=found.trusted)
    return found


async def _ceiling(work: Work[Caller], scopes: Sequence[str] | None) -> list[str] | None:
    """Return the ceiling that these scopes come to. Raises ScopeNotRegistered."""
    if scopes is None:
        return None if work.actor.is_admin else sorted(work.actor.scopes - IDENTITY.keys())
    await require_registered(work.db, frozenset(scopes))
    return sorted(set(scopes))


def _check_client_id(client_id: str) -> str:
    name = normalise_username(client_id)
    # As a service account's, which a confidential client is. It stands in paths.
    if not name.isascii() or not {":", "/"}.isdisjoint(name) or name in {".", ".."}:
        raise Refused("A client's id is ASCII without colons and slashes.")
    if name.lower() == FIRST_PARTY_CLIENT:
        raise Refused(f"{FIRST_PARTY_CLIENT} is the product's own id.")
    return name


def _check_name(name: str) -> str:
    check_remark(name)
    shown = name.strip()
    if not shown or not shown.isprintable():
        raise Refused("A client's name is printable text: people see it when they let it in.")
    return shown


def _check_redirects(uris: Sequence[str]) -> list[str]:
    if not uris:
        raise Refused("A client has at least one redirect URI.")
    return check_redirect_uris(uris)


def _check_grace(seconds: int | None) -> int | None:
    if seconds is not None and not LEAST_GRACE <= seconds <= MOST_GRACE:
        raise Refused(f"A client's refresh grace is {LEAST_GRACE} to {MOST_GRACE} seconds.")
    return seconds


def _check_algorithm(algorithm: str) -> str:
    if algorithm not in ID_TOKEN_ALGORITHMS:
        raise Refused(f"ID tokens are signed by one of {', '.join(ID_TOKEN_ALGORITHMS)}.")
    return algorithm


def _told(registration: Registration) -> dict[str, Any]:
    """Return what the audit log says of a client."""
    return {
        "client_id": registration.client_id,
        "name": registration.name,
        "redirect_uris": registration.redirect_uris,
        "post_logout_redirect_uris": registration.post_logout_redirect_uris,
        "scopes": registration.scopes,
        "confidential": registration.account_id is not None,
        "trusted": registration.trusted,
        "refresh_grace": registration.refresh_grace,
        "id_token_signed_response_alg": registration.id_token_signed_response_alg,
    }
