"""Settings of mail: a server is reached by TLS, and what is wrong is one line without a secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.cli.console import problem_with_settings
from app.mail_settings import sender_address, smtp_server
from tests.conftest import settings_for


def problem(**changes: object) -> str:
    with pytest.raises(ValidationError) as caught:
        settings_for("postgresql://nowhere", **changes)
    return problem_with_settings(caught.value)


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [
        ("smtp://shop:p%40ss@smtp.example", 587, "starttls"),
        ("smtp://shop:p%40ss@smtp.example:2525/", 2525, "starttls"),
        ("smtps://shop:p%40ss@smtp.example", 465, "tls"),
        ("smtp://shop:p%40ss@localhost?tls=off", 25, "off"),
        ("smtp://shop:p%40ss@127.0.0.9:1025?tls=off", 1025, "off"),
        ("smtp://shop:p%40ss@[::1]:1025?tls=off", 1025, "off"),
    ],
)
def test_a_server_is_reached_as_its_url_says(url: str, port: int, tls: str) -> None:
    server = smtp_server(url)
    assert (server.port, server.tls, server.username) == (port, tls, "shop")
    assert server.password
    assert server.password.get_secret_value() == "p@ss"
    assert "p@ss" not in repr(server)
    assert "p@ss" not in str(server)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("smtp://a:secret@smtp.example?tls=off", "tls=off is for smtp:// to this machine alone"),
        ("smtp://a:secret@127.0.0.1.example?tls=off", "tls=off is for smtp:// to this machine"),
        ("smtps://a:secret@localhost?tls=off", "tls=off is for smtp:// to this machine alone"),
        ("smtp://a:secret@smtp.example?tls=maybe", "tls=off is the only option"),
        ("smtp://a:secret@smtp.example?verify=no", "tls=off is the only option"),
        ("http://a:secret@smtp.example", "write smtp://user:password@host:587"),
        ("smtp://", "write smtp://user:password@host:587"),
        ("smtp://a:secret@smtp.example:99999", "write smtp://user:password@host:587"),
        ("smtp://a:secret@smtp.example/path", "there is no path or fragment in it"),
        ("smtp://secret@smtp.example", "a user needs a password, and the reverse"),
    ],
)
def test_a_url_that_is_wrong_stops_the_start_and_is_not_repeated(url: str, why: str) -> None:
    told = problem(smtp_url=url, mail_from="a@b.example")
    assert told.startswith(f"SCOPEGATE_SMTP_URL: {why}")
    assert "secret" not in told


@pytest.mark.parametrize(
    "wrong",
    [
        "shop",
        "@shop.example",
        "a@b.example, c@d.example",
        "a@b.example\nBcc: c@d.example",
        "jörg@x.de",
    ],
)
def test_mails_are_from_one_address(wrong: str) -> None:
    assert "write one address" in problem(mail_from=wrong)


def test_a_server_needs_a_sender() -> None:
    assert "SCOPEGATE_MAIL_FROM is not set" in problem(smtp_url="smtp://smtp.example")
    assert sender_address("Shop <no-reply@shop.example>").display_name == "Shop"


def test_the_url_can_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("smtps://smtp.example\n")
    settings = settings_for(
        "postgresql://nowhere", smtp_url_file=tmp_path / "url", mail_from="a@b.example"
    )
    assert settings.smtp_server == smtp_server("smtps://smtp.example")
