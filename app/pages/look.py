"""How the pages look: our templates, those that replace them, and the brand."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.errors import ConfigurationError
from app.settings import Settings
from app.template_files import MAILS, Templates, open_templates, read_templates

OUR_FOLDER = Path(__file__).parent / "templates"
PAGES = Templates(OUR_FOLDER, suffixes=(".html",), apart=MAILS, of="page")
MOST_LOGO_BYTES = 256 * 1024
PNG = b"\x89PNG\r\n\x1a\n"
SVG = "http://www.w3.org/2000/svg svg"


OURS = open_templates(OUR_FOLDER)


@dataclass(frozen=True, slots=True)
class Logo:
    """The operator's logo, as it is served."""

    content: bytes
    media_type: str

    @property
    def url(self) -> str:
        """Where a page finds it: another logo has another address, so caches keep none too long."""
        return f"brand/logo?v={hashlib.sha256(self.content).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Brand:
    """What templates know of the brand."""

    name: str
    logo: str
    """The logo's address, relative to the page."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the pages of one service look."""

    brand: Brand
    logo: Logo | None
    templates: ImmutableSandboxedEnvironment

    @classmethod
    def of(cls, settings: Settings) -> "Look":
        """Return the look that these settings ask for.

        Raises ConfigurationError when a file of it can't be used.
        """
        logo = read_logo(settings.brand_logo) if settings.brand_logo else None
        brand = Brand(settings.brand_name, logo.url if logo else "console/assets/icon.svg")
        folder = settings.templates
        return cls(brand, logo, read_templates(PAGES, folder) if folder else OURS)

    def render(self, template: str, **values: Any) -> str:
        """Return the page."""
        return self.templates.get_template(template).render(brand=self.brand, **values)


def read_logo(path: Path) -> Logo:
    """Return the logo in this file. Raises ConfigurationError when it is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_LOGO_BYTES + 1)
    except OSError as error:
        raise _wrong_logo(path, f"can't be read ({error.strerror})") from None
    if len(content) > MOST_LOGO_BYTES:
        raise _wrong_logo(path, "has more than 256 KiB: make it smaller")
    if content.startswith(PNG):
        return Logo(content, "image/png")
    if _is_svg(content):
        return Logo(content, "image/svg+xml")
    raise _wrong_logo(path, "is neither SVG nor PNG: convert it")


def _wrong_logo(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"SCOPEGATE_BRAND_LOGO: {path} {why}")


def _is_svg(content: bytes) -> bool:
    """Whether this is well-formed XML whose outermost element is SVG's."""
    names: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, _: names.append(name)
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError):
        return False
    return names[0] == SVG
