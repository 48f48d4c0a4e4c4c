"""Frames: what a stream sends, in the format of server-sent events (WHATWG HTML, 9.2).

Their times are milliseconds by the database's clock, those inside a `set` seconds.
"""

import json
import uuid
from collections.abc import Mapping

from app.db.events import CLIENT_CHANGED
from app.events.ring import Entry

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
OURS = "urn:scopegate:event:"
TYPES = {
    "session-revoked": CAEP + "session-revoked",
    "account-disabled": RISC + "account-disabled",
    "account-enabled": RISC + "account-enabled",
    "account-purged": RISC + "account-purged",
    "grants-changed": OURS + "grants-changed",
    "scopes-changed": OURS + "scopes-changed",
    "token-revoked": OURS + "token-revoked",
    "keys-changed": OURS + "keys-changed",
    CLIENT_CHANGED: OURS + CLIENT_CHANGED,
}
"""URIs of the event types: those of CAEP 1.0 and RISC 1.0 where there is one."""


def frame(name: str, data: Mapping[str, object]) -> bytes:
    """Return a frame. Its data is one line of JSON, in ASCII."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


EVERYTHING = frame("everything", {})


def beat(through: int) -> bytes:
    """Return the frame that proves that all changes committed before `through` were sent."""
    return frame("beat", {"through": through})


def bye(reason: str) -> bytes:
    """Return the last frame."""
    return frame("bye", {"reason": reason})


def security_event(entry: Entry, *, issuer: str) -> bytes:
    """Return the frame of an event: the claims of a Security Event Token (RFC 8417)."""
    claims = {
        "iss": issuer,
        "jti": str(uuid.uuid4()),
        "iat": entry.second,
        "sub_id": _subject(entry, issuer),
        "events": {TYPES[entry.event.type]: {"event_timestamp": entry.second}},
    }
    return frame("set", claims)


def _subject(entry: Entry, issuer: str) -> dict[str, object]:
    """Return the subject identifier (RFC 9493)."""
    match [str(each) for each in entry.event.ids]:
        case []:
            return {"format": "opaque", "id": entry.event.client_id or issuer}
        case [token_id] if entry.event.type == "token-revoked":
            return {"format": "opaque", "id": token_id}
        case [user_id]:
            return {"format": "iss_sub", "iss": issuer, "sub": user_id}
        case [user_id, session_id, *_]:
            user = {"format": "iss_sub", "iss": issuer, "sub": user_id}
            session = {"format": "opaque", "id": session_id}
            return {"format": "complex", "user": user, "session": session}
    raise AssertionError(entry.event)
