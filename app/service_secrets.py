"""The secrets of the service, from which its keys are derived."""

import os
import secrets
from pathlib import Path

from app.setting_types import split_secrets
from app.settings import Settings


def secret_keys_of(settings: Settings) -> list[str]:
    """The service's secrets, the encrypting one first; development makes its own."""
    return split_secrets(settings.secret_keys) or [development_secret(settings.home)]


def development_secret(home: Path) -> str:
    """The secret that development keeps for itself under `home`, made at the first start."""
    path = home / "secret_keys"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        home.mkdir(parents=True, exist_ok=True)
        # Written aside and linked into place: of two that start together, one secret stays.
        draft = home / f"secret_keys.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text().strip()
