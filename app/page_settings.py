"""Settings of the pages where people sign in: their look, and who may send people there."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from app.env_file import EnvFileSettings
from app.setting_types import BrandName, DocumentHosts


class PageSettings(EnvFileSettings):
    """What an operator can choose about the pages."""

    brand_name: Annotated[
        BrandName, Field(description="What the pages where people sign in call this service.")
    ] = "Scopegate"
    brand_logo: Annotated[
        Path | None,
        Field(description="The logo on these pages: an SVG or PNG file of at most 256 KiB."),
    ] = None
    templates: Annotated[
        Path | None,
        Field(
            description="A folder whose templates replace those of these pages: see "
            "[Brand the pages](../how-to/brand-the-pages.md)."
        ),
    ] = None
    client_id_metadata: Annotated[
        bool,
        Field(
            description="`true`: an application that is not registered may name the URL of a "
            "[document about itself](sign-in.md#client-id-metadata-documents), which is fetched."
        ),
    ] = False
    client_id_metadata_hosts: Annotated[
        DocumentHosts,
        Field(
            description="The hosts whose documents are fetched (`app.example`, "
            "`127.0.0.1:8080`), on any network, on loopback also by http; unset: every public one."
        ),
    ] = ()
