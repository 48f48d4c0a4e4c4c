"""Delivery by SMTP: encrypted, trusted and logged in, or not at all."""

import ssl
from pathlib import Path

import pytest

from app.mail.smtp import NotDelivered, Smtp
from app.mail_settings import smtp_server
from tests.conftest import settings_for
from tests.support.described import make_certificate
from tests.support.mails import FROM, TAKEN, envelope_to, mail_server

SETTINGS = settings_for("postgresql://nowhere", issuer="https://auth.example")
PASSWORD = "p%40ss%2Fword"


def way_to(url: str) -> Smtp:
    return Smtp.of(SETTINGS, smtp_server(url))


async def deliver(url: str, to: str = "bob@example.com") -> list[str]:
    """What the server said."""
    said: list[str] = []

    async def keep(answer: str) -> None:
        said.append(answer)

    await way_to(url).deliver(envelope_to(to), keep)
    return said


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return context


@pytest.fixture
def trusted(tmp_path: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's trust store has the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.usefixtures("trusted")
async def test_a_mail_and_the_login_go_over_tls(context: ssl.SSLContext, scheme: str) -> None:
    async with mail_server(context, implicit=scheme == "smtps") as server:
        said = await deliver(f"{scheme}://shop:{PASSWORD}@localhost:{server.port}")
    assert said == [TAKEN]
    assert server.logins == [(b"shop", b"p@ss/word")]
    assert server.encrypted == [True]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_server_that_the_system_does_not_trust_gets_nothing(
    context: ssl.SSLContext, scheme: str
) -> None:
    async with mail_server(context, implicit=scheme == "smtps") as server:
        with pytest.raises(
            NotDelivered, match=r"certificate is not trusted: self.signed"
        ) as caught:
            await deliver(f"{scheme}://shop:{PASSWORD}@localhost:{server.port}")
    assert not caught.value.permanent
    assert (server.logins, server.taken) == ([], [])


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_for_another_host_is_refused(context: ssl.SSLContext) -> None:
    async with mail_server(context, host="127.0.0.2") as server:
        with pytest.raises(NotDelivered, match="not trusted: IP address mismatch"):
            await deliver(f"smtp://shop:{PASSWORD}@127.0.0.2:{server.port}")
    assert server.taken == []


@pytest.mark.parametrize("login", ["", f"shop:{PASSWORD}@"])
async def test_without_starttls_nothing_is_said_to_the_server(login: str) -> None:
    async with mail_server() as server:
        with pytest.raises(NotDelivered, match="can't take it") as caught:
            await deliver(f"smtp://{login}localhost:{server.port}")
    assert "STARTTLS" in caught.value.told
    assert (server.logins, server.taken) == ([], [])


@pytest.mark.usefixtures("trusted")
async def test_a_wrong_password_is_no_reason_to_give_a_mail_up(context: ssl.SSLContext) -> None:
    async with mail_server(context) as server:
        with pytest.raises(NotDelivered, match=r"^the server refused the login: 535") as caught:
            await deliver(f"smtp://shop:wrong@localhost:{server.port}")
    assert not caught.value.permanent
    assert "wrong" not in repr(caught.value)


async def test_words_of_a_refusal_hold_no_address_but_what_the_operator_is_told_does() -> None:
    async with mail_server() as server:
        server.recipients["bob@example.com"] = "550 5.1.1 <bob@example.com>: no such user"
        with pytest.raises(NotDelivered) as caught:
            await deliver(f"smtp://127.0.0.1:{server.port}?tls=off")
    assert str(caught.value) == "the server refused the recipient: 550 5.1.1"
    assert caught.value.told == "550 5.1.1 <bob@example.com>: no such user"


async def test_an_address_beyond_ascii_needs_a_server_that_knows_it() -> None:
    async with mail_server() as server:
        await deliver(f"smtp://127.0.0.1:{server.port}?tls=off", "jörg@münchen.example")
    assert server.taken[0].recipient == "jörg@xn--mnchen-3ya.example"
    assert "To: jörg@xn--mnchen-3ya.example" in server.taken[0].content.decode()
    async with mail_server(utf8=False) as server:
        await deliver(f"smtp://127.0.0.1:{server.port}?tls=off", "bob@straße.example")
        assert server.taken[0].recipient == "bob@xn--strae-oqa.example", "IDNA 2008, not 2003"
        with pytest.raises(NotDelivered, match="SMTPUTF8") as caught:
            await deliver(f"smtp://127.0.0.1:{server.port}?tls=off", "jörg@münchen.example")
    assert caught.value.permanent


async def test_the_service_calls_itself_by_the_host_of_its_issuer() -> None:
    assert way_to("smtp://localhost?tls=off").hostname == "auth.example"
    for issuer, name in {
        "http://127.0.0.1:8000": "[127.0.0.1]",
        "http://[::1]:8000": "[IPv6:::1]",
    }.items():
        settings = settings_for("postgresql://nowhere", issuer=issuer)
        assert Smtp.of(settings, smtp_server("smtp://localhost?tls=off")).hostname == name


async def test_the_message_says_that_a_program_wrote_it() -> None:
    async with mail_server() as server:
        await deliver(f"smtp://127.0.0.1:{server.port}?tls=off")
    message = server.taken[0].message
    assert message["From"] == FROM
    assert message["To"] == "bob@example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@shop.example>")
    assert message.get_content_type() == "multipart/alternative"
    assert server.taken[0].content.isascii()
    assert max(map(len, server.taken[0].content.splitlines())) <= 998
