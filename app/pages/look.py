"""How the pages look: our templates, those that replace them, and the brand."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    FileSystemLoader,
    PrefixLoader,
    StrictUndefined,
    TemplateSyntaxError,
)
from jinja2.meta import find_referenced_templates
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.errors import ConfigurationError
from app.settings import Settings

OUR_FOLDER = Path(__file__).parent / "templates"
MOST_LOGO_BYTES = 256 * 1024
PNG = b"\x89PNG\r\n\x1a\n"
SVG = "http://www.w3.org/2000/svg svg"


def _environment(*loaders: BaseLoader) -> ImmutableSandboxedEnvironment:
    ours = FileSystemLoader(OUR_FOLDER)
    # A sandbox: those who write an operator's pages need not be those who may run code here.
    return ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([*loaders, ours, PrefixLoader({"scopegate": ours})]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What was checked at the start is what is shown.
        auto_reload=False,
    )


OURS = _environment()


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
        return cls(brand, logo, read_templates(folder) if folder else OURS)

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


def read_templates(folder: Path) -> ImmutableSandboxedEnvironment:
    """Return the templates, of which those in this folder replace ours.

    All of them are compiled. Raises ConfigurationError with the file and line that is wrong.
    """
    if not folder.is_dir():
        raise _wrong_template(f"{folder} is not a folder")
    environment = _environment(FileSystemLoader(folder))
    known, used = set(environment.list_templates()), {each.name for each in OUR_FOLDER.iterdir()}
    names = [name for name in FileSystemLoader(folder).list_templates() if _is_page(name)]
    for name in names:
        named = _named_in(environment, folder, name)
        if unknown := sorted(named - known):
            raise _wrong_template(f"{folder / name} names {unknown[0]}, which does not exist")
        used |= named
    # Most often the name is misspelt, and the page would look as before.
    if unused := [name for name in names if name not in used]:
        raise _wrong_template(f"{folder / unused[0]} is the template of no page")
    return environment


def _is_page(name: str) -> bool:
    """Whether it is more than a file beside the templates, or a copy that Kubernetes keeps."""
    return name.endswith(".html") and not any(part.startswith(".") for part in name.split("/"))


def _named_in(environment: ImmutableSandboxedEnvironment, folder: Path, name: str) -> set[str]:
    """Return the templates that this one names; it is compiled. Raises ConfigurationError."""
    path = folder / name
    try:
        parsed = environment.parse(path.read_text("utf-8"))
        environment.get_template(name)
    except TemplateSyntaxError as error:
        raise _wrong_template(f"{path}, line {error.lineno}: {error.message}") from None
    except UnicodeDecodeError:
        raise _wrong_template(f"{path} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise _wrong_template(f"{path} can't be read ({error.strerror})") from None
    return {each for each in find_referenced_templates(parsed) if each is not None}


def _wrong_template(why: str) -> ConfigurationError:
    return ConfigurationError(f"SCOPEGATE_TEMPLATES: {why}")
