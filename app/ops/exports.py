"""Users as Keycloak, Auth0 and GoTrue (Supabase) export them, read as rows of an import.

An account that can't sign in there does not become one that can sign in here: it is refused. So is
one whose name here would be an email address that was never confirmed: it may be someone else's, to
whom an administrator then grants by that name. Roles and groups are not read, so nothing is
granted.
"""

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from app.errors import Refused
from app.identity import foreign_hashes
from app.mail.addresses import find_address
from app.ops.json_users import unrepeated

ARGON2_VERSIONS = {"1.0": 16, "1.3": 19}
KEYCLOAK_DIGESTS = {"pbkdf2": "sha1", "pbkdf2-sha256": "sha256", "pbkdf2-sha512": "sha512"}

GOTRUE = {"email", "encrypted_password", "email_confirmed_at", "banned_until", "deleted_at"}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d")

Values = dict[str, str]
"""What a row says, by the columns of `app.ops.people_files`."""


def row_of(record: object) -> Values:
    """Return username and password hash of a user in another system's JSON. Raises Refused."""
    if not isinstance(record, dict):
        raise Refused("This is not a user.")
    if "encrypted_password" in record:
        return gotrue_row({key: _text(record, key) for key in record.keys() & GOTRUE})
    if "localId" in record:
        raise Refused(
            "This is a user of Firebase, whose hashes need the project's key: "
            "see docs/how-to/move-from-another-system.md"
        )
    if "passwordHash" in record or "identifiers" in record:
        return _auth0_row(record)
    if "username" in record and ("credentials" in record or "enabled" in record):
        return _keycloak_row(record)
    raise Refused("This is not a user as Keycloak, Auth0 or GoTrue exports them.")


def gotrue_row(record: Mapping[str, str]) -> Values:
    """Return a row of a row of GoTrue's table `auth.users`. Raises Refused."""
    if record.get("deleted_at"):
        raise Refused("This user is deleted there.")
    if record.get("banned_until"):
        raise Refused("This user is or was banned there.")
    if not record.get("email"):
        raise Refused("This user has no email address, which would be the username.")
    confirmed = record.get("email_confirmed_at")
    if confirmed == "":
        raise _unconfirmed()
    if confirmed is not None and not _MOMENT.match(confirmed):
        raise Refused("This user's email_confirmed_at is not a time.")
    return _row(record["email"], record["encrypted_password"], confirmed and record["email"])


def _auth0_row(record: dict[str, Any]) -> Values:
    if _flag(record, "blocked", default=False):
        raise Refused("This user is blocked there.")
    usernames = [record.get("username")]
    # With whether they were confirmed, which older exports do not say.
    emails = [(record.get("email"), _flag(record, "email_verified"))]
    for each in reversed(_list(record, "identifiers")):
        if each.get("type") == "username":
            usernames.append(each.get("value"))
        elif each.get("type") == "email":
            emails.append((each.get("value"), _flag(each, "verified")))
    confirmed = [address for address, verified in emails if verified]
    name = next(filter(None, [*usernames, *confirmed]), None)
    if not name:
        if any(address for address, _ in emails):
            raise _unconfirmed()
        raise Refused("This user has neither a username nor an email address.")
    # Only what the export says, not what is taken for granted where it says nothing.
    email = record.get("email") if record.get("email_verified") is True else None
    return _row(name, record.get("passwordHash"), email)


def _keycloak_row(record: dict[str, Any]) -> Values:
    if not _flag(record, "enabled"):
        raise Refused("This user is disabled there.")
    if record.get("serviceAccountClientId"):
        raise Refused("This is a service account: create it here, with a secret of its own.")
    verified = _flag(record, "emailVerified", default=False)
    if record["username"] == _text(record, "email") and not verified:
        raise _unconfirmed()
    passwords = [each for each in _list(record, "credentials") if each.get("type") == "password"]
    password_hash = _keycloak_hash(passwords[0]) if passwords else None
    return _row(record["username"], password_hash, _text(record, "email") if verified else None)


def _keycloak_hash(credential: dict[str, Any]) -> str:
    try:
        how, secret = _nested(credential["credentialData"]), _nested(credential["secretData"])
        salt, key = _octets(secret["salt"]), _octets(secret["value"])
        algorithm, iterations = str(how["algorithm"]), int(how["hashIterations"])
        if algorithm in KEYCLOAK_DIGESTS:
            return foreign_hashes.pbkdf2(KEYCLOAK_DIGESTS[algorithm], iterations, salt, key)
        if algorithm != "argon2":
            raise Refused("This hash is by none of Keycloak's own algorithms.")
        of = {name: values[0] for name, values in how["additionalParameters"].items()}
        settings = f"m={int(of['memory'])},t={iterations},p={int(of['parallelism'])}"
        version = ARGON2_VERSIONS[of.get("version", "1.3")]
        return foreign_hashes.argon2(str(of.get("type", "id")), version, settings, salt, key)
    except (
        ArithmeticError,
        AttributeError,
        IndexError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ):
        raise Refused("This user's password in Keycloak's export is broken.") from None


def _nested(text: str) -> Any:
    return json.loads(text, object_pairs_hook=unrepeated)


def _unconfirmed() -> Refused:
    return Refused("This user's email address was never confirmed there.")


def _octets(text: str) -> bytes:
    return b64decode(text, validate=True)


def _row(username: object, password_hash: object, email: object = None) -> Values:
    """Return the row; with the address that was confirmed there, if mail can go to it."""
    if not isinstance(username, str):
        raise Refused("This user's name is not text.")
    if not isinstance(password_hash, str) or not password_hash:
        raise Refused("This user has no password there: they sign in some other way.")
    found = {"username": username, "password_hash": password_hash}
    return found | {"email": email} if isinstance(email, str) and find_address(email) else found


def _list(record: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = record.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Refused(f"This user's {key} are not a list.")
    if not all(isinstance(each, dict) for each in found):
        raise Refused(f"This user's {key} are a list with something in it that is no object.")
    return found


def _flag(record: dict[str, Any], key: str, *, default: bool = True) -> bool:
    """Return a member that is true or false; the default where it is absent, null as false.

    Raises Refused.
    """
    # Whether a user may sign in is not guessed: the text "false" is neither.
    found = record.get(key, default)
    if found is None:
        return False
    if not isinstance(found, bool):
        raise Refused(f"This user's {key} is neither true nor false.")
    return found


def _text(record: dict[str, Any], key: str) -> str:
    """Return a member that is text; none where it is null or absent. Raises Refused."""
    found = record.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Refused(f"This user's {key} is not text.")
    return found
