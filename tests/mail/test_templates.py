"""What mails say: hostile values inject nothing, and templates of the operator's replace ours."""

import uuid
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest

from app.errors import ConfigurationError
from app.mail.messages import MessageWriter
from app.mail.sealing import Mail, Template
from app.mail.templates import OUR_FOLDER, WITHOUT_VALUES, MailTemplates
from app.main import create_app
from app.settings import PROJECT
from tests.conftest import settings_for
from tests.support.mails import VALUES

HOSTILE = {
    "username": (
        'eve</p><script>alert(1)</script><a href="https://evil.example">\r\nBcc: eve@evil.example'
        "\r\n\r\n{{ link }}\u2028\u202eevil\x00<img src=x onerror=alert(1)>"
    ),
    "link": 'https://auth.example/#"><script>alert(2)</script>\r\n\r\nsecond part',
}
TEMPLATES: tuple[Template, ...] = get_args(Template)


def written(template: Template, values: dict[str, str], **settings: object) -> EmailMessage:
    """The message, as it is read."""
    given = settings_for("postgresql://nowhere", **settings)
    mail = Mail(template, "bob@example.com", values)
    envelope = MessageWriter.of(given).write(uuid.uuid4(), mail, at=datetime.now(UTC))
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


class Elements(HTMLParser):
    """What a reader of mail makes of the HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.links += [value for name, value in attrs if name in {"href", "src"}]


@pytest.mark.parametrize("template", TEMPLATES)
def test_hostile_values_inject_neither_html_nor_headers(template: Template) -> None:
    plain, hostile = (
        written(template, {} if template in WITHOUT_VALUES else values, brand_name="<b>Sh&op</b>")
        for values in (VALUES, HOSTILE)
    )
    assert hostile.keys() == plain.keys()
    assert len(hostile["To"].addresses) == 1
    harmless, found = Elements(part(plain, "html")), Elements(part(hostile, "html"))
    assert found.found == harmless.found
    expected = [HOSTILE["link"].replace("\r\n\r\n", " ")] * len(harmless.links)
    assert found.links == expected
    assert part(hostile, "plain").count("\n") == part(plain, "plain").count("\n")
    assert "\n" not in hostile["Subject"]
    assert "<b>Sh&op</b>" in part(hostile, "plain")


@pytest.mark.parametrize("template", TEMPLATES)
def test_text_and_html_say_the_same_and_have_the_link(template: Template) -> None:
    values = {} if template in WITHOUT_VALUES else VALUES
    message = written(template, values, brand_name="Shop")
    for kind in ("plain", "html"):
        text = part(message, kind)
        assert "Shop" in text
        for name, value in values.items():
            # Only what a person may act on has a link.
            assert (value in text) == (name != "link" or template != "address-replaced")
    assert message["Subject"]
    assert message["From"] == "Shop <no-reply@localhost.localdomain>"


def test_a_template_of_the_operators_replaces_ours_and_the_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    folder.mkdir()
    (folder / "invitation.txt").write_text("Welcome, {{ username }}\n\nOpen {{ link }}\n")
    (folder / "base.html").write_text('{% extends "scopegate/base.html" %}')
    (folder / "notes.md").write_text("{{ nothing of ours }}")
    (tmp_path / "error.html").write_text("a page of the operator's")
    settings = settings_for("postgresql://nowhere", templates=tmp_path)
    create_app(settings)
    templates = MailTemplates.of(settings)
    said = templates.render("invitation", {"username": "<alice>", "link": "l"})
    assert (said.subject, said.text) == ("Welcome, <alice>", "Open l\n")
    assert "&lt;alice&gt;" in said.html
    assert templates.render("test", {}).text == "This is a test: Scopegate can send mail.\n"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("invitation.txt", "{% if %}", "/mail/invitation.txt, line 1: "),
        ("invitation.txt", "{{ user_name }}", "/mail: invitation can't be shown ('user_name' is"),
        ("invitation.txt", "{{ 1 / 0 }}", "/mail: invitation can't be shown ("),
        ("invite.txt", "x", "/mail/invite.txt is the template of no mail"),
        ("test.html", '{% extends "x.html" %}', "/mail/test.html names x.html, which does not"),
    ],
)
def test_a_template_of_a_mail_that_is_wrong_stops_the_start(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / name).write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        create_app(settings_for("postgresql://nowhere", templates=tmp_path))
    assert str(caught.value).startswith(f"SCOPEGATE_TEMPLATES: {tmp_path}{why}")


def test_the_guide_names_every_mail() -> None:
    guide = (PROJECT / "docs" / "how-to" / "deliver-mail.md").read_text()
    files = {each.name for each in OUR_FOLDER.iterdir()}
    names = {f"{template}.{kind}" for template in TEMPLATES for kind in ("txt", "html")}
    assert files == names | {"base.html", "button.html"}
    for template in TEMPLATES:
        assert f"`{template}`" in guide
