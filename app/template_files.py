"""Templates: ours, and those in a folder of the operator's that replace them."""

from dataclasses import dataclass
from pathlib import Path

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

MAILS = "mail"
"""The folder of mails in the operator's folder of templates."""


@dataclass(frozen=True, slots=True)
class Templates:
    """A kind of templates: where ours are, and which files replace them."""

    ours: Path
    suffixes: tuple[str, ...]
    of: str
    """What one is the template of, for error messages."""
    apart: str = ""
    """A folder below the operator's whose templates are of another kind."""


def open_templates(ours: Path, *loaders: BaseLoader) -> ImmutableSandboxedEnvironment:
    """Return the environment of our templates, which those of the loaders replace.

    What is not plain text is escaped. Ours stay there below `scopegate/`.
    """
    own = FileSystemLoader(ours)
    # A sandbox: those who write an operator's templates need not be those who may run code here.
    return ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([*loaders, own, PrefixLoader({"scopegate": own})]),
        autoescape=lambda name: name is None or not name.endswith(".txt"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What was checked at the start is what is shown.
        auto_reload=False,
    )


def read_templates(kind: Templates, folder: Path) -> ImmutableSandboxedEnvironment:
    """Return the templates, of which those in this folder replace ours.

    All of them are compiled. Raises ConfigurationError with the file and line that is wrong.
    """
    if not folder.is_dir():
        raise wrong_template(f"{folder} is not a folder")
    environment = open_templates(kind.ours, FileSystemLoader(folder))
    known, used = set(environment.list_templates()), {each.name for each in kind.ours.iterdir()}
    names = [name for name in FileSystemLoader(folder).list_templates() if _is_one(kind, name)]
    for name in names:
        named = _named_in(environment, folder, name)
        if unknown := sorted(named - known):
            raise wrong_template(f"{folder / name} names {unknown[0]}, which does not exist")
        used |= named
    # Most often the name is misspelt, and the page would look as before.
    if unused := [name for name in names if name not in used]:
        raise wrong_template(f"{folder / unused[0]} is the template of no {kind.of}")
    return environment


def _is_one(kind: Templates, name: str) -> bool:
    """Whether it is more than a file beside the templates, or a copy that Kubernetes keeps."""
    folders = name.split("/")
    if folders[0] == kind.apart and len(folders) > 1:
        return False
    return name.endswith(kind.suffixes) and not any(part.startswith(".") for part in folders)


def _named_in(environment: ImmutableSandboxedEnvironment, folder: Path, name: str) -> set[str]:
    """Return the templates that this one names; it is compiled. Raises ConfigurationError."""
    path = folder / name
    try:
        parsed = environment.parse(path.read_text("utf-8"))
        environment.get_template(name)
    except TemplateSyntaxError as error:
        raise wrong_template(f"{path}, line {error.lineno}: {error.message}") from None
    except UnicodeDecodeError:
        raise wrong_template(f"{path} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise wrong_template(f"{path} can't be read ({error.strerror})") from None
    return {each for each in find_referenced_templates(parsed) if each is not None}


def wrong_template(why: str) -> ConfigurationError:
    """Return the error that tells of a template that can't be used."""
    return ConfigurationError(f"SCOPEGATE_TEMPLATES: {why}")
