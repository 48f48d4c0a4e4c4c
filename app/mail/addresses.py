"""E-mail addresses: which texts are some, and how they are compared."""

import unicodedata
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from app.errors import Refused

MAX_ADDRESS = 254
"""Characters (RFC 5321 §4.5.3.1.3)."""


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address."""

    shown: str
    """As it was typed, with its domain as people write it: mail goes there."""
    key: str
    """As it is compared. Two addresses with one key count as the same."""


def parse_address(text: str) -> Address:
    """Return the address that the text is. Raises Refused if it is none that mail can go to."""
    shown = text.strip(" ")
    found = _parse(shown)
    if found is None:
        raise Refused("This is not an e-mail address that mail can be sent to.")
    return found


def find_address(text: str) -> Address | None:
    """Return the address that the text is; None if it is none."""
    return _parse(text.strip(" "))


def address_key(text: str) -> str:
    """Return what spellings of one address have in common, also of a text that is no address."""
    found = find_address(text)
    return found.key if found else text.casefold()


def _parse(shown: str) -> Address | None:
    if not 1 <= len(shown) <= MAX_ADDRESS or "@" not in shown:
        return None
    try:
        # Whether there is such a mailbox shows when a link that was sent there is used.
        found = validate_email(shown, check_deliverability=False)
    except EmailNotValidError:
        return None
    if len(found.normalized) > MAX_ADDRESS:
        return None
    # The domain in its ASCII form: one key for all spellings. RFC 5321 lets a server tell letter
    # case apart in front of the @; none that people use does.
    # Not casefold(): ß and ss may be two people's.
    local = unicodedata.normalize("NFC", found.local_part.lower())
    return Address(found.normalized, f"{local}@{found.ascii_domain.lower()}")
