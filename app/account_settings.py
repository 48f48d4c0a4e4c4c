"""Settings of accounts: who may make one, and what it then holds."""

from typing import Annotated, Literal

from pydantic import Field

from app.env_file import EnvFileSettings
from app.setting_types import SignUpScopes


class AccountSettings(EnvFileSettings):
    """What an operator can choose about accounts."""

    sign_up: Annotated[
        Literal["closed", "open"],
        Field(description="`open`: people may make accounts for themselves, at `/sign-up`."),
    ] = "closed"
    sign_up_scopes: Annotated[
        SignUpScopes,
        Field(
            description="Scopes of an account made by sign-up, separated by spaces. Never `admin`, "
            "and only those that are registered."
        ),
    ] = ("read:items", "write:items")
