"""The content of a mail while it waits: encrypted under the service's secrets."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.crypto import fernet_key, mac
from app.db.work import Origin
from app.errors import ScopegateError

Template = Literal[
    "verify-email",
    "reset-password",
    "sign-up-taken",
    "confirm-address",
    "address-changed",
    "address-replaced",
    "invitation",
    "test",
]
"""The mails that there are."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to be sent."""

    template: Template
    to: str
    """The address as it was typed."""
    values: Mapping[str, str]
    """What the template shows."""
    user_id: uuid.UUID | None = None
    """Whose it is: erased with them."""
    notice: bool = False
    """It tells of a change that has happened, so the hourly limit does not count it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for. The sender composes the mail, if there is one."""

    purpose: str
    to: str
    values: Mapping[str, str]
    origin: Origin
    """Of the request, for the audit log."""


class UnreadableMail(ScopegateError):
    """The content can't be read with the secrets that are set here."""

    text = "it was written under another secret than SCOPEGATE_SECRET_KEYS has"


class Sealing:
    """Encrypts content under the first secret, reads it by each, and makes digests of addresses."""

    def __init__(self, secret_keys: list[str]) -> None:
        keys = [fernet_key(each, b"scopegate mail") for each in secret_keys]
        self._cipher = MultiFernet([Fernet(each) for each in keys])
        self._secret = secret_keys[0].encode()

    def digest(self, key: str) -> bytes:
        """Return what stands for an address, as it is compared, in a column that is not sealed."""
        return mac(self._secret, b"mail address", key.encode("utf-8", "surrogatepass"))

    def seal(self, mail_id: uuid.UUID, content: Mail | Asked) -> str:
        """Return the content, encrypted for the row of this id alone."""
        fields: dict[str, Any] = {"to": content.to, "values": dict(content.values)}
        if isinstance(content, Asked):
            fields |= {"purpose": content.purpose, "origin": asdict(content.origin)}
        else:
            fields |= {"template": content.template}
        text = json.dumps({"id": str(mail_id), **fields})
        return self._cipher.encrypt(text.encode()).decode()

    def open(self, mail_id: uuid.UUID, sealed: str) -> Mail | Asked:
        """Return the content of the row of this id. Raises UnreadableMail."""
        try:
            fields = json.loads(self._cipher.decrypt(sealed.encode()))
        except InvalidToken:
            raise UnreadableMail from None
        if fields.pop("id") != str(mail_id):
            raise UnreadableMail
        if "origin" in fields:
            return Asked(**{**fields, "origin": Origin(**fields["origin"])})
        return Mail(**fields)
