"""Clients that describe themselves: as the rows on which sessions and consents rest.

A row is written only once a person has let the client in, so strangers write none.
"""

from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.access.client_documents import ClientDocument
from app.audit.log import record
from app.db.work import Actor, Work
from app.identity.models import ID_TOKEN_ALGORITHM, Registration
from app.identity.registrations import find_registration

_NOT_DESCRIBED: dict[str, Any] = {
    "post_logout_redirect_uris": [],
    "trusted": False,
    "id_token_signed_response_alg": ID_TOKEN_ALGORITHM,
}
"""What such a client is whatever its document says."""


async def documented_client(db: AsyncSession, document: ClientDocument) -> Registration:
    """Return the client as its document has it. Nothing is written.

    Until a person has let it in, it has another id each time.
    """
    found = await find_registration(db, document.client_id)
    if found is None:
        found = Registration(
            id=uuid7(),
            client_id=document.client_id,
            **_NOT_DESCRIBED,
        )
    else:
        db.expunge(found)
    found.name, found.redirect_uris = document.name, list(document.redirect_uris)
    return found


async def keep_documented(work: Work[Actor], client: Registration) -> Registration:
    """Return the client's row, which says what the document says now; it is made if need be."""
    described = {"name": client.name, "redirect_uris": client.redirect_uris}
    statement = (
        insert(Registration)
        .values(
            id=client.id,
            client_id=client.client_id,
            **_NOT_DESCRIBED,
            **described,
        )
        .on_conflict_do_update(
            index_elements=[Registration.client_id],
            index_where=Registration.deleted_at.is_(None),
            set_=described,
        )
        .returning(Registration)
    )
    kept = (await work.db.scalars(statement)).one()
    # One that was there already has a time, or another id.
    if kept.id == client.id and client.created_at is None:
        record(work, "client.created", client_id=client.client_id, **described)
    return kept
