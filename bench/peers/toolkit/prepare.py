"""`python -m bench.peers.toolkit.prepare`: the tables, the one user, the client they sign in by."""

import os

import django
from django.core.management import call_command

from bench.peers.account import CLIENT_ID, PASSWORD, USERNAME


def prepare() -> None:
    """Make them, in an empty database."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench.peers.toolkit.settings"
    django.setup()
    call_command("migrate", verbosity=0)
    # Importable only once Django is set up.
    from django.contrib.auth.models import User
    from oauth2_provider.models import Application

    User.objects.create_user(USERNAME, password=PASSWORD)
    Application.objects.create(
        client_id=CLIENT_ID,
        client_type=Application.CLIENT_PUBLIC,
        authorization_grant_type=Application.GRANT_PASSWORD,
    )


if __name__ == "__main__":
    prepare()
