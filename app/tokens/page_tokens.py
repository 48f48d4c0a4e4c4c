"""Page tokens: a form is accepted only from the page, browser and person that it was made for."""

import base64
import hmac
import secrets
import struct
from datetime import datetime, timedelta

from app.crypto import mac

TICKET_BYTES = 16
MAC_BYTES = 32
PAGE_LIFETIME = timedelta(hours=1)
"""How long a page may stay open before its form is sent. Less than codes' rows are kept."""
_TIME = struct.Struct(">q")


class PageTokens:
    """Writes the tokens of forms under the first secret, and reads those of every secret.

    A token is `time ‖ ticket ‖ MAC`, over what the form is bound to: the cookie of the browser, the
    request that the page is for, and where there is one the person. Nothing is kept of it. A
    ticket is random: where a form may be sent only once, it is kept then.
    """

    def __init__(self, secret_keys: list[str]) -> None:
        self._secrets = [secret.encode() for secret in secret_keys]

    def write(self, *bound_to: str, now: datetime) -> str:
        """Return a new token for a form that is bound to these."""
        head = _TIME.pack(int(now.timestamp())) + secrets.token_bytes(TICKET_BYTES)
        raw = head + _mac(self._secrets[0], head, bound_to)
        return base64.urlsafe_b64encode(raw).decode()

    def read(self, token: str, *bound_to: str, now: datetime) -> bytes | None:
        """Return the ticket of a form's token; None if it is not ours, for this, or too old."""
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except ValueError:
            return None
        if len(raw) != _TIME.size + TICKET_BYTES + MAC_BYTES:
            return None
        head, seal = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        # All are tried, not any(): the time does not tell which secret it was.
        if not sum(hmac.compare_digest(seal, _mac(key, head, bound_to)) for key in self._secrets):
            return None
        (written,) = _TIME.unpack_from(head)
        age = now.timestamp() - written
        if not -1 <= age <= PAGE_LIFETIME.total_seconds() + 1:
            return None
        return head[_TIME.size :]


def _mac(key: bytes, head: bytes, bound_to: tuple[str, ...]) -> bytes:
    # With their lengths: no two lists of texts make the same message.
    texts = [each.encode("utf-8", "surrogatepass") for each in bound_to]
    message = head + b"".join(struct.pack(">I", len(each)) + each for each in texts)
    return mac(key, b"scopegate page", message)
