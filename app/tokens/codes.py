"""Authorization codes: issued to a browser, redeemed by the client (RFC 6749 §4.1, RFC 7636).

A code is 256 random bits, of which a digest is kept. One conditional UPDATE redeems it, so of
however many at once one succeeds. A second valid redemption shows that another party has the code
too: what was issued for it ends.
"""

import base64
import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import ColumnElement, exists, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.access.client_limits import client_limit
from app.access.consents import note_use
from app.access.holdings import granted_until, issuable_scopes
from app.access.scopes import OPENID
from app.audit.log import record
from app.crypto import digest
from app.db.base import is_storable
from app.db.work import Actor, Work
from app.errors import Conflict, InvalidGrant
from app.identity.browser_sessions import BrowserLogin
from app.identity.clients import AskingClient, Client
from app.identity.models import Registration, User
from app.identity.session_opening import ChangedMeanwhile, CodeOrigin, Opening, open_session
from app.identity.session_writes import end_session, end_surplus_sessions, keep_alive
from app.tokens.id_tokens import IdClaims
from app.tokens.issuing import Issued, Issuer, new_session, write_for_resource
from app.tokens.models import AuthorizationCode

CODE_PREFIX = "sgc_"
CODE_LIFETIME = timedelta(seconds=60)
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


class CodeRefused(InvalidGrant):
    """One answer for every reason."""

    text = "The authorization code is invalid, expired or used, or was issued for something else."


class CodeReplayed(CodeRefused):
    """A code that was redeemed before. What was issued for it has ended, and stays so."""

    keeps_writes = True
    audited = True


class PageUsed(Conflict):
    """A consent page gives one code."""

    text = "This page was used already."


@dataclass(frozen=True, slots=True)
class CodeTerms:
    """What a code is bound to, beside the person and their browser."""

    registration_id: uuid.UUID
    redirect_uri: str | None
    """As the request had it."""
    challenge: str
    scopes: frozenset[str]
    nonce: str | None
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PresentedCode:
    """A code, and what must come with it."""

    code: str
    redirect_uri: str | None
    verifier: str
    resource: str | None
    """The one that the token is for, of those of the code."""


def is_challenge(challenge: str) -> bool:
    """Whether it could be an S256 challenge (RFC 7636 §4.2)."""
    return _CHALLENGE.fullmatch(challenge) is not None


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier."""
    hashed = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(hashed).decode().rstrip("=")


async def issue_code(
    work: Work[Actor],
    issuer: Issuer,
    terms: CodeTerms,
    *,
    login: BrowserLogin,
    consent_id: uuid.UUID,
    ticket: bytes | None = None,
) -> str:
    """Return a new code for the actor. `ticket`: of the page that they allowed it on.

    Raises PageUsed when a code was issued for the same ticket before.
    """
    assert work.actor.user_id is not None
    code = CODE_PREFIX + secrets.token_urlsafe(32)
    statement = (
        insert(AuthorizationCode)
        .values(
            digest=digest(code),
            ticket=ticket,
            consent_id=consent_id,
            user_id=work.actor.user_id,
            registration_id=terms.registration_id,
            browser_session_id=login.session_id,
            epoch=select(User.session_epoch).where(User.id == work.actor.user_id).scalar_subquery(),
            redirect_uri=terms.redirect_uri,
            challenge=terms.challenge,
            nonce=terms.nonce,
            resources=list(terms.resources) or None,
            signed_in_at=login.signed_in_at,
            methods=login.methods,
            scopes=sorted(terms.scopes),
            expires_at=work.now + CODE_LIFETIME,
        )
        .on_conflict_do_nothing(index_elements=[AuthorizationCode.ticket])
        .returning(AuthorizationCode.digest)
    )
    if await work.db.scalar(statement) is None:
        raise PageUsed
    await note_use(work, consent_id)
    idle_until = work.now + issuer.session_idle_timeout
    await keep_alive(work, login.session_id, idle_until=idle_until)
    return code


async def code_grant(
    work: Work[Actor],
    issuer: Issuer,
    presented: PresentedCode,
    *,
    client: Client | None,
    asking: AskingClient,
) -> Issued:
    """RFC 6749 §4.1.3: scopes are those of the code ∩ consented ∩ the ceiling ∩ granted now.

    Opens a session, bound to the client. Raises CodeReplayed, which ends the session that the code
    has given before, and CodeRefused for every other reason; then nothing has changed.
    """
    session_id = uuid7()
    found = await _redeem(work, presented, asking, session_id=session_id)
    if found is None:
        await _end_replayed(work, presented, asking)
        raise CodeRefused
    granted = await granted_until(work.db, found.user_id, now=work.now)
    limit = await client_limit(work.db, found.consent_id)
    if limit is None:
        raise CodeRefused
    issuable = await issuable_scopes(
        work.db, granted, requested=None, within=frozenset(found.scopes), limit=limit
    )
    session = new_session(work, found.user_id, issuable.scopes, lifetimes=issuer.of_people)
    session.id, session.consent_id = session_id, found.consent_id
    session.client_id, session.resources = asking.client_id, found.resources
    issued = await write_for_resource(work, issuer, session, issuable, named=presented.resource)
    if OPENID in issuable.scopes:
        issued = replace(issued, id_token=await _id_token(work, issuer, found, issued))
    others = issuer.max_sessions - 1
    try:
        by = Opening(client=client, code=CodeOrigin(found.browser_session_id, found.epoch))
        has_more = await open_session(work, session, by, most=others)
    except ChangedMeanwhile as changed:
        raise CodeRefused(reason=str(changed)) from None
    await issuer.store(work, issued)
    await work.commit()
    if has_more:
        async with work.database.work(work.actor) as later:
            await end_surplus_sessions(later, found.user_id, most=others, but=session.id)
    return issued


async def _id_token(
    work: Work[Actor], issuer: Issuer, code: AuthorizationCode, issued: Issued
) -> str:
    """Return what tells the client who signed in, and when (OpenID Connect Core §2)."""
    algorithm = await work.db.scalar(
        select(Registration.id_token_signed_response_alg).where(
            Registration.id == code.registration_id
        )
    )
    return issuer.id_tokens.encode(
        IdClaims(
            issued.claims,
            nonce=code.nonce,
            signed_in_at=code.signed_in_at,
            methods=tuple(code.methods),
        ),
        access_token=issued.access_token,
        algorithm=algorithm,
    )


async def _redeem(
    work: Work[Actor], presented: PresentedCode, asking: AskingClient, *, session_id: uuid.UUID
) -> AuthorizationCode | None:
    statement = (
        update(AuthorizationCode)
        .where(
            *_bound_to(presented, asking),
            AuthorizationCode.redeemed_at.is_(None),
            AuthorizationCode.expires_at > work.now,
        )
        .values(redeemed_at=work.now, issued_session_id=session_id)
        .returning(AuthorizationCode)
        .execution_options(synchronize_session=False)
    )
    return await work.db.scalar(statement)


async def _end_replayed(work: Work[Actor], presented: PresentedCode, asking: AskingClient) -> None:
    """End what the code has given before, if it was redeemed and all that it is bound to is right.

    Raises CodeReplayed then.
    """
    issued = select(AuthorizationCode).where(*_bound_to(presented, asking))
    found = await work.db.scalar(issued)
    if found is None or found.issued_session_id is None:
        return
    record(
        work,
        "code.replayed",
        subject=found.user_id,
        client_id=asking.client_id,
        session=found.issued_session_id,
    )
    await end_session(work, found.issued_session_id, reason="authorization code used again")
    raise CodeReplayed


def _bound_to(presented: PresentedCode, asking: AskingClient) -> list[ColumnElement[bool]]:
    """Return the conditions that the code was issued for this client, redirect and verifier."""
    code = AuthorizationCode
    valid = _VERIFIER.fullmatch(presented.verifier) is not None
    # What can't be stored is none of a request.
    given = presented.redirect_uri if is_storable(presented.redirect_uri or "") else None
    confidential = Registration.account_id.is_not(None)
    of_client = exists().where(
        Registration.id == code.registration_id,
        Registration.client_id == asking.client_id,
        Registration.deleted_at.is_(None),
        confidential if asking.authenticated else ~confidential,
    )
    return [
        code.digest == digest(presented.code),
        code.challenge == (challenge_of(presented.verifier) if valid else ""),
        or_(code.redirect_uri.is_(None), code.redirect_uri == given),
        of_client,
    ]
