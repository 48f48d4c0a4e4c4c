"""Open sessions, by one statement that takes no lock (decision 0024).

Nothing here checks authority. Only `access`, `tokens` and this package may import it: the import
contracts in pyproject.toml.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    DateTime,
    Integer,
    LargeBinary,
    Select,
    Update,
    Uuid,
    bindparam,
    exists,
    false,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert

from app.audit.log import announce, entry_of
from app.audit.models import AuditEntry
from app.db.work import Actor, Work
from app.errors import InvalidToken, ScopegateError
from app.identity.candidates import Authentication
from app.identity.clients import CLIENT_IS_CURRENT, Client
from app.identity.models import BrowserSession, Consent, PersonalToken, Session, User
from app.identity.networks import insert_network, network_values
from app.identity.session_writes import surplus_sessions
from app.identity.sessions import is_live

SIGN_IN_NOTED_AFTER = timedelta(minutes=1)
"""Since the last sign-in that was noted: of a busy service account's, not each writes its row."""


class ChangedMeanwhile(ScopegateError):
    """The password or secret was changed, or its holder disabled, since it was found right."""

    text = "changed meanwhile"


@dataclass(frozen=True, slots=True)
class CodeOrigin:
    """What an authorization code was issued in."""

    browser: uuid.UUID
    """The session, which must live; and the new session's consent must be there."""
    epoch: int
    """The person's `session_epoch`, which must still be the same."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a new session rests on, and what else is written with it."""

    person: Authentication | None = None
    client: Client | None = None
    """That has authenticated too, or alone."""
    code: CodeOrigin | None = None
    cookie: bytes | None = None
    """The digest of the cookie that stands for the new session."""


async def open_session(
    work: Work[Actor], session: Session, by: Opening, *, most: int | None
) -> bool:
    """Add a session if what it rests on holds, and note when and where that was.

    Return whether a person has more live sessions than `most` beside it. Raises ChangedMeanwhile.

    One statement, so the password, the secret and the user's epoch are of one moment. A change of
    these that commits later begins a new epoch, which ends this session too. So a login takes no
    lock, and waits for no change of its user.
    """
    entry = entry_of(
        work.as_user(session.user_id),
        "login.succeeded",
        subject=session.user_id,
        session=session.id,
        client_id=session.client_id,
        scopes=session.scopes,
    )
    values = {
        **{f"session_{name}": getattr(session, name) for name in _GIVEN},
        **{f"entry_{name}": getattr(entry, name) for name in _ENTRY},
        **network_values(work),
        "noted_before": work.now - SIGN_IN_NOTED_AFTER,
        "most": most,
    }
    if by.person is not None:
        values["shown_hash"] = by.person.credential_version
    if by.client is not None:
        values |= {"client": by.client.id, "digest": by.client.digest}
    if by.code is not None:
        values |= {"browser": by.code.browser, "code_epoch": by.code.epoch, "now": work.now}
    if by.cookie is not None:
        values["cookie"] = by.cookie
        values["methods"] = list(by.person.methods if by.person else ())
    statement = _opening(
        by_password=by.person is not None,
        by_client=by.client is not None,
        by_code=by.code is not None,
        with_cookie=by.cookie is not None,
    )
    row = (await work.db.execute(statement, values)).one_or_none()
    if row is None:
        raise ChangedMeanwhile
    announce(work, entry)
    _, surplus = row
    return bool(surplus)


_GIVEN = (
    *(
        "id",
        "user_id",
        "client_id",
        "consent_id",
        "scopes",
        "resources",
        "created_at",
        "last_used_at",
        "expires_at",
    ),
    *("idle_expires_at", "address", "user_agent", "refresh_key"),
)
"""A new session's columns, but for its epoch and its generation."""
_OF_TOKEN = (*_GIVEN, "generation", "token_name")
"""Those of a personal access token."""
_ENTRY = ("id", "action", "actor", "subject", "detail", "address", "request_id")


@cache  # Built once each, because each login runs one.
def _opening(
    *, by_password: bool, by_client: bool, by_code: bool, with_cookie: bool
) -> Select[uuid.UUID, bool]:
    """Build the statement that opens a session, if what it rests on is as it was."""
    # No name is a column's: an UPDATE would take it for a value of that column.
    user_id, moment = bindparam("session_user_id", type_=Uuid()), DateTime(timezone=True)
    sessions, entries = Session.__table__.c, AuditEntry.__table__.c
    given = [bindparam(f"session_{each}", type_=sessions[each].type) for each in _GIVEN]
    told = [bindparam(f"entry_{each}", type_=entries[each].type) for each in _ENTRY]
    proven = [User.id == user_id, User.disabled_at.is_(None)]
    if by_password:
        proven.append(User.password_hash == bindparam("shown_hash"))
    if by_client:
        proven.append(CLIENT_IS_CURRENT)
    if by_code:
        now = bindparam("now", type_=moment)
        proven.append(User.session_epoch == bindparam("code_epoch"))
        browser = Session.id == bindparam("browser", type_=Uuid())
        proven.append(exists(select(Session.id).where(browser, is_live(now))))
        proven.append(exists().where(Consent.id == bindparam("session_consent_id", type_=Uuid())))
    opened = (
        insert(Session)
        .from_select(
            [*_GIVEN, "epoch", "generation"],
            select(*given, User.session_epoch, literal(0)).where(*proven),
        )
        .returning(Session.id)
        .cte("opened")
    )
    is_open = exists(select(opened.c.id))
    audited = insert(AuditEntry).from_select([*_ENTRY], select(*told).where(is_open))
    noted = _note_sign_in(user_id, bindparam("noted_before", type_=moment), where=is_open)
    # Postgres runs these from the last to the first. So the user's row is locked last, and a change
    # of the user waits for none of the others.
    also = [noted.cte("noted"), audited.cte("audited")]
    surplus: ColumnElement[bool] = false()
    if by_password:
        also.append(insert_network(user_id, is_open).cte("remembered"))
    if with_cookie:
        also.append(_add_cookie(opened).cte("kept"))
    if by_password or by_code:
        # The new one is not among them: no part of a statement sees what another part writes.
        now, most = (
            bindparam("session_created_at", type_=moment),
            bindparam("most", type_=Integer()),
        )
        surplus = exists(surplus_sessions(user_id, now, most))
    return select(opened.c.id, surplus).add_cte(*also)


def _note_sign_in(
    user_id: BindParameter[uuid.UUID],
    before: BindParameter[datetime],
    *,
    where: ColumnElement[bool],
) -> Update:
    noted = User.last_sign_in_at
    # A row that is locked is skipped: a login waits for no change of its user. Another login that
    # notes it, or the next one, is soon enough.
    due = (
        select(User.id)
        .where(User.id == user_id, or_(noted.is_(None), noted < before), where)
        .with_for_update(skip_locked=True, key_share=True)
    )
    now = bindparam("session_created_at", type_=DateTime(timezone=True))
    return update(User).where(User.id.in_(due)).values(last_sign_in_at=now)


def _add_cookie(opened: CTE) -> Insert:
    """Let a cookie stand for the session, in which a person uses our pages."""
    cookie = bindparam("cookie", type_=LargeBinary())
    moment = bindparam("session_created_at", type_=DateTime(timezone=True))
    methods = bindparam("methods", type_=BrowserSession.methods.type)
    return insert(BrowserSession).from_select(
        ["session_id", "digest", "signed_in_at", "methods"],
        select(opened.c.id, cookie, moment, methods),
    )


@dataclass(frozen=True, slots=True)
class TokenSecret:
    """What a new personal access token is known by."""

    digest: bytes
    ticket: bytes | None
    """Of the form that it is made by, if it is made by one."""


async def open_token_session(
    work: Work[Actor], session: Session, secret: TokenSecret, *, maker: uuid.UUID
) -> None:
    """Add the session of a personal access token. Raises InvalidToken unless `maker` is live.

    `maker` is a session of the same user. One statement, so that a user who is disabled meanwhile,
    or whose epoch ends, has no token that outlasts it. A form that is sent twice breaks the
    constraint of tickets: IntegrityError.
    """
    columns = Session.__table__.c
    given = [literal(getattr(session, name), columns[name].type) for name in _OF_TOKEN]
    made_by = select(Session.id).where(
        Session.id == maker, Session.user_id == User.id, is_live(work.now)
    )
    opened = (
        insert(Session)
        .from_select(
            [*_OF_TOKEN, "epoch"],
            select(*given, User.session_epoch).where(
                User.id == session.user_id, exists(made_by.correlate(User))
            ),
        )
        .returning(Session.id, Session.user_id, Session.expires_at)
        .cte("opened")
    )
    kept = insert(PersonalToken).from_select(
        ["session_id", "user_id", "expires_at", "digest", "ticket"],
        select(
            *opened.c,
            literal(secret.digest, LargeBinary()),
            literal(secret.ticket, LargeBinary()),
        ),
    )
    if await work.db.scalar(select(opened.c.id).add_cte(kept.cte("kept"))) is None:
        raise InvalidToken
