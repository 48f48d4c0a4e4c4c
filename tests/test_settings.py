"""Settings: what production refuses, in one clear line, and what is derived."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.setting_types import PUBLISHED_SECRETS
from app.settings import Settings
from tests.conftest import SECRET

URL = "postgresql://user@host/name"


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


def complaint(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**values)
    return caught.value.errors()[0]["msg"]


def test_production_refuses_a_missing_secret() -> None:
    assert "SCOPEGATE_SECRET_KEYS is not set" in complaint(
        environment="production", database_url=URL
    )
    assert "SCOPEGATE_SECRET_KEYS is not set" in complaint(
        environment="production", database_url=URL, secret_keys=" , "
    )


@pytest.mark.parametrize(
    "weak",
    [
        *("short", "a" * 64, f"{SECRET},short", f"{SECRET},{'ab' * 32}"),
        *PUBLISHED_SECRETS,
        "changeme-changeme-changeme-changeme",
        "please-change-this-secret-please-Change",
        "12345678901234567890123456789012",
        "correct-horse-1!correct-horse-1!",
    ],
)
def test_weak_secrets_are_refused_everywhere(weak: str) -> None:
    for environment in ("development", "production"):
        text = complaint(environment=environment, database_url=URL, secret_keys=weak)
        assert "secret" in text
        assert weak not in text


def test_production_refuses_to_have_no_database() -> None:
    assert "SCOPEGATE_DATABASE_URL is not set" in complaint(
        environment="production", secret_keys=SECRET
    )


def test_production_refuses_sign_up_that_no_mail_can_finish() -> None:
    sound: dict[str, object] = {
        "environment": "production",
        "database_url": URL,
        "secret_keys": SECRET,
        "sign_up": "open",
    }
    assert "SCOPEGATE_SIGN_UP=open needs SCOPEGATE_SMTP_URL" in complaint(**sound)
    assert settings(**sound, smtp_url="smtps://mail.example", mail_from="no-reply@shop.example")


def test_sign_up_never_gives_admin() -> None:
    assert "never admin" in complaint(sign_up_scopes="read:items admin")
    assert settings(sign_up_scopes="read:items  write:items").sign_up_scopes == (
        "read:items",
        "write:items",
    )


def test_a_sound_production_is_accepted() -> None:
    assert settings(environment="production", database_url=URL, secret_keys=SECRET)


def test_secrets_are_read_from_files_and_the_value_wins(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    from_file = settings(secret_keys_file=file).secret_keys
    assert from_file
    assert from_file.get_secret_value() == SECRET
    both = settings(secret_keys_file=file, secret_keys=SECRET[::-1]).secret_keys
    assert both
    assert both.get_secret_value() == SECRET[::-1]


def test_a_secret_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = complaint(admin_password_file=tmp_path / "absent")
    assert "SCOPEGATE_ADMIN_PASSWORD_FILE" in text
    assert "absent" in text


def test_secrets_are_not_in_the_settings_repr() -> None:
    text = repr(settings(secret_keys=SECRET, database_url="postgresql://u:hunter2@h/n"))
    assert SECRET not in text
    assert "hunter2" not in text


def test_trusted_proxies_are_addresses_and_networks_and_nobody_by_default() -> None:
    assert settings().trusted_proxies == ()
    networks = settings(trusted_proxies="10.0.0.0/8, ::1,192.0.2.1,").trusted_proxies
    assert [str(network) for network in networks] == ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "::1;::2"])
def test_trusted_proxies_that_are_none_are_refused(wrong: str) -> None:
    text = complaint(trusted_proxies=f"10.0.0.1, {wrong}")
    assert wrong in text
    assert "write addresses and networks: 10.0.0.0/8, ::1" in text


@pytest.mark.parametrize(
    ("values", "issuer"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "::", "port": 80}, "http://localhost:80"),
        ({"host": "::1"}, "http://[::1]:8000"),
        ({"issuer": "https://auth.example"}, "https://auth.example"),
        ({"issuer": "https://example.com/auth"}, "https://example.com/auth"),
        ({"issuer": "https://example.com:8443/a/b.c/~d"}, "https://example.com:8443/a/b.c/~d"),
        ({"issuer": "http://auth_service:8000"}, "http://auth_service:8000"),
        ({"issuer": "http://[2001:db8::1]:8000"}, "http://[2001:db8::1]:8000"),
        ({"issuer": "https://Auth.example/A"}, "https://Auth.example/A"),
    ],
)
def test_issuer_is_the_url_served_at_unless_it_is_set(
    values: dict[str, object], issuer: str
) -> None:
    assert settings(**values).token_issuer == issuer
    assert settings(**values).token_audience == issuer
    assert settings(**values, audience="items").token_audience == "items"


@pytest.mark.parametrize(
    "value",
    [
        "auth.example",
        "ftp://auth.example",
        "https://auth.example?tenant=1",
        "https://auth.example/?",
        "https://auth.example/#",
        "https://auth.example#top",
        "https://user@auth.example",
        "https://user:hunter2@auth.example/",
        " https://auth.example",
        "https://auth.example ",
        "https://auth.example/a b",
        "https://auth.example/a\n",
        "https://auth.example/a%20b",
        "https://auth.example//a",
        "https://auth.example/../a",
        "https://auth.example/a/.",
        "https://auth.example:99999",
        "https://auth.example:0",
        "https://auth.example:",
        "https://ärzte.example",
        "https://auth.example\\a",
        "https://[::1",
    ],
)
def test_what_clients_would_read_in_another_way_is_no_issuer(value: str) -> None:
    text = complaint(issuer=value)
    assert "https://auth.example" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "value",
    ["https://", "http:", "https:/", "HTTPS:///", "https://:8000", "https://?a", "https://#"],
)
def test_an_issuer_without_a_host_is_refused_as_such(value: str) -> None:
    assert "the issuer has no host: https://auth.example" in complaint(issuer=value)


@pytest.mark.parametrize("value", ["a\nb", "a\0", "\x7f", "a\x85b", "a\u2028b", "\udcff"])
def test_control_characters_in_what_tokens_hold_are_refused(value: str) -> None:
    assert "control characters" in complaint(audience=value)
    assert "https://auth.example" in complaint(issuer=f"https://auth.example/{value}")


@pytest.mark.parametrize(
    "value",
    ["https://auth.example/", "https://example.com/auth/", "http://[::1]:8000/", "https://a//"],
)
def test_a_slash_at_the_end_of_the_issuer_is_refused_and_never_dropped(value: str) -> None:
    assert "without the slash at its end" in complaint(issuer=value)


@pytest.mark.parametrize(
    "value", ["https://api.example/", "api://orders/", " items", "items ", "urn:a?b#c", "/", "ü"]
)
def test_the_audience_is_kept_byte_for_byte(value: str) -> None:
    assert settings(audience=value).token_audience == value


def test_origins_and_hosts_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (settings().cors_origins, settings().trusted_hosts) == ((), ())
    origins = "https://app.example, http://localhost:3000,http://[::1]:8000"
    monkeypatch.setenv("SCOPEGATE_CORS_ORIGINS", origins)
    monkeypatch.setenv("SCOPEGATE_TRUSTED_HOSTS", "auth.example,*.internal.example,[::1]")
    assert settings().cors_origins == tuple(map(str.strip, origins.split(",")))
    assert settings().trusted_hosts == ("auth.example", "*.internal.example", "[::1]")


@pytest.mark.parametrize(
    "value",
    [
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
        "safari-web-extension://E1C5C25F-4E6B-4A1C-9B2C-3F0C0C3A9D11",
        "app://obsidian.md",
        "http://tauri.localhost",
        "com.example.app://localhost:8080",
    ],
)
def test_origins_of_hybrid_apps_and_extensions_are_accepted(value: str) -> None:
    assert settings(cors_origins=f"https://app.example,{value}").cors_origins[1] == value


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "null",
        "file://",
        "file://localhost",
        "ws://app.example",
        "capacitor:localhost",
        "capacitor://",
        "capacitor://localhost/index.html",
        "chrome-extension://*",
        "app.example",
        "https://app.example/",
        "https://*.example",
        "https://App.example",
        "http://localhost:080",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(value: str) -> None:
    assert "https://app.example" in complaint(cors_origins=f"http://localhost,{value}")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://app.example:443", "browsers leave out port 443 of https and port 80 of http"),
        ("http://app.example:80", "browsers leave out port 443 of https and port 80 of http"),
        ("http://[::1]:80", "browsers leave out port 443 of https and port 80 of http"),
        ("https://app.example:65536", "a port is a number from 1 to 65535"),
        ("http://[0:0:0:0:0:0:0:1]:3000", r"browsers write this address as http://[::1]:3000"),
        ("http://[1:2]", "an IPv6 address looks like this: http://[::1]:3000"),
        ("http://[::1", "origins look like this"),
    ],
)
def test_an_origin_that_a_browser_writes_otherwise_is_refused(value: str, reason: str) -> None:
    assert reason in complaint(cors_origins=f"http://localhost,{value}")


def test_the_other_schemes_port_is_no_default() -> None:
    origins = ("https://app.example:80", "http://app.example:443", "https://[::1]:8443")
    assert settings(cors_origins=",".join(origins)).cors_origins == origins


@pytest.mark.parametrize("value", ["*", "auth.example:8000", "https://auth.example", "a.*.example"])
def test_what_is_no_host_is_refused(value: str) -> None:
    assert "without a port" in complaint(trusted_hosts=value)


@pytest.mark.parametrize(("written", "seconds"), [("0.5", 0.5), ("2", 2), ("1e1", 10), (3, 3)])
def test_a_duration_is_written_as_seconds(written: object, seconds: float) -> None:
    assert settings(database_pool_timeout=written).database_pool_timeout == timedelta(
        seconds=seconds
    )


@pytest.mark.parametrize("wrong", ["1h", "PT15M", "", "nan", "inf", "1e99", "0", "-1", "0.5"])
def test_a_duration_that_is_no_number_of_seconds_is_refused(wrong: str) -> None:
    text = complaint(access_token_lifetime=wrong)
    assert any(part in text for part in ("seconds", "greater than"))
