"""What mails say: our templates, and those in the operator's folder that replace them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.mail.sealing import Template
from app.settings import Settings
from app.template_files import MAILS, Templates, open_templates, read_templates, wrong_template

WITHOUT_VALUES = {"sign-up-taken", "test"}
SAMPLE = {"username": "alice", "link": "https://auth.example/verify-email#token"}
"""What all other templates show."""
OUR_FOLDER = Path(__file__).parent / "templates"
KIND = Templates(OUR_FOLDER, suffixes=(".txt", ".html"), of="mail")
LONGEST_SUBJECT = 200
"""Characters."""
# Ends of lines, control characters, and what turns the direction of writing around.
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a mail says."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class MailTemplates:
    """The templates of one service, and the name that they call it by."""

    brand: str
    templates: ImmutableSandboxedEnvironment

    @classmethod
    def of(cls, settings: Settings) -> "MailTemplates":
        """Return the templates that these settings ask for.

        Each is rendered once. Raises ConfigurationError when one can't be.
        """
        folder = settings.templates / MAILS if settings.templates else None
        if folder is None or not folder.is_dir():
            return cls(settings.brand_name, open_templates(OUR_FOLDER))
        found = cls(settings.brand_name, read_templates(KIND, folder))
        for template in get_args(Template):
            try:
                found.render(template, {} if template in WITHOUT_VALUES else SAMPLE)
            except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
                raise wrong_template(f"{folder}: {template} can't be shown ({error})") from None
        return found

    def render(self, template: Template, values: Mapping[str, str]) -> Rendered:
        """Return what the mail says. The first line of the text is the subject.

        Each value is shown as one line, so it can end neither the subject nor a paragraph.
        """
        shown = {name: _NOT_SHOWN.sub(" ", value) for name, value in values.items()}
        text, html = (
            self.templates.get_template(f"{template}.{kind}").render(brand=self.brand, **shown)
            for kind in ("txt", "html")
        )
        subject, _, rest = text.strip().partition("\n")
        return Rendered(_NOT_SHOWN.sub(" ", subject)[:LONGEST_SUBJECT], rest.strip() + "\n", html)
