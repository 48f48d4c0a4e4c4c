"""`.env.example`: the settings that operators set most, as the code describes them.

`python -m tests.generated_env` writes it anew.
"""

import textwrap

from app.setting_types import HOW_TO_MAKE_A_SECRET
from app.settings import PROJECT, Settings

FILE = PROJECT / ".env.example"
WIDTH = 98
HEAD = """\
# Copy this file to .env, and remove the # before what you set. The environment comes before .env.
# docs/reference/settings.md lists all settings.
"""
EXAMPLES = {
    "For production, set these four.": {
        "environment": "production",
        "database_url": "postgresql://scopegate@db.example/scopegate",
        "secret_keys": "",
        "issuer": "https://auth.example",
    },
    "Where it listens, and what stands before it.": {
        "host": "127.0.0.1",
        "port": "8000",
        "trusted_proxies": "10.0.0.0/8",
        "trusted_hosts": "auth.example",
        "cors_origins": "https://app.example",
        "hsts": "31536000",
    },
    "The database.": {
        "database_password_file": "/run/secrets/database-password",
        "database_pool_size": "10",
        "listen_database_url": "postgresql://scopegate@postgres.example/scopegate",
    },
    "Tokens and logins.": {
        "access_token_format": "jwt",
        "access_token_lifetime": "900",
        "signing_algorithm": "ES256",
        "session_lifetime": "2592000",
        "session_idle_timeout": "1209600",
        "password_grant": "true",
        "revocation_bound": "5",
        "hash_threads": "2",
    },
    "Mail.": {
        "smtp_url": "smtp://user:password@smtp.example:587",
        "mail_from": "Shop <no-reply@shop.example>",
    },
    "Operating it.": {
        "metrics_token": "",
        "audit_kept": "31536000",
        "shutdown_delay": "10",
    },
}
"""By heading: settings with a value that can be used as it is, or none where it must be secret."""


def env_example() -> str:
    """Return the whole file."""
    parts = [HEAD]
    for heading, examples in EXAMPLES.items():
        parts.append(f"\n# == {heading}\n")
        for name, value in examples.items():
            comment = textwrap.fill(_described(name), WIDTH)
            if name == "secret_keys":
                comment += f"\n{HOW_TO_MAKE_A_SECRET}"
            parts.append(f"\n{textwrap.indent(comment, '# ')}\n#SCOPEGATE_{name.upper()}={value}\n")
    return "".join(parts)


def set_in(text: str) -> str:
    """Return the file as it is when an operator has set everything."""
    return text.replace("\n#SCOPEGATE_", "\nSCOPEGATE_")


def _described(name: str) -> str:
    description = Settings.model_fields[name].description
    if description is None:
        setting = name.removesuffix("_file")
        described = Settings.model_fields[setting].description
        return f"A file to read SCOPEGATE_{setting.upper()} from. {described}"
    return description


if __name__ == "__main__":
    FILE.write_text(env_example())
