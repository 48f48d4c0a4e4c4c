"""`scopegate doctor`: whatever is broken, it says so and what to do, and changes nothing."""

import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import make_url, text

from app.access.scopes import SHIPPED
from app.mail.outbox import Mail
from app.ops.doctor import unknown_settings
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support import databases
from tests.support.commands import Environment, refusal, scopegate, succeed
from tests.support.factories import OPERATOR, bearer, make_user
from tests.support.faults import OwnPostgres
from tests.support.mails import mail_server, write

CHECKS = [
    "environment",
    "issuer",
    "mail from",
    "database",
    "clock",
    "schema",
    "scopes",
    "change feed",
    "triggers",
    "keys",
    "admin",
    "outbox",
    "mail",
]


async def examined() -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the findings by what was looked at; no other output."""
    result = await scopegate("doctor", "--json")
    assert result.stderr == ""
    return result.exit_code, {each["check"]: each for each in json.loads(result.stdout)}


async def one_thing_is_wrong(check: str, found: str, remedy: str) -> None:
    """The doctor finds this wrong, and nothing else."""
    code, findings = await examined()
    assert code == 1
    assert [each["check"] for each in findings.values() if each["state"] == "wrong"] == [check]
    assert found in findings[check]["found"]
    assert remedy in findings[check]["remedy"]


@pytest.fixture
async def healthy(environment: Environment, own_runtime: Runtime) -> Environment:
    for name in unknown_settings(os.environ):  # those of the tests
        environment.delenv(name)
    await make_user(own_runtime, "admin", username="root")
    return environment


async def test_a_healthy_installation_is_found_so(healthy: Environment) -> None:
    code, findings = await examined()
    assert code == 0
    assert list(findings) == CHECKS
    assert {each["state"] for each in findings.values()} == {"ok"}
    assert {each["remedy"] for each in findings.values()} == {None}
    shown = await scopegate("doctor")
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["ok"] * len(CHECKS)


async def test_a_setting_that_is_misspelt_is_found(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_TRUSTED_PROXYS", "10.0.0.1")
    code, findings = await examined()
    assert findings["environment"]["state"] == "warning"
    misspelt = "no settings: SCOPEGATE_TRUSTED_PROXYS (SCOPEGATE_TRUSTED_PROXIES?)"
    assert findings["environment"]["found"].endswith(misspelt)
    assert code == 0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SCOPEGATE_PASSWORT_GRANT", " (SCOPEGATE_PASSWORD_GRANT?)"),
        ("SCOPGATE_PASSWORD_GRANT", " (SCOPEGATE_PASSWORD_GRANT?)"),
        ("scopegate-password-grant", " (SCOPEGATE_PASSWORD_GRANT?)"),
        ("SCOPEGATE_CORS_ORIGIN", " (SCOPEGATE_CORS_ORIGINS?)"),
        ("SCOPEGATE_TLS", ""),
    ],
)
async def test_a_setting_that_is_misspelt_in_the_file_is_found(
    healthy: Environment, tmp_path: Path, name: str, meant: str
) -> None:
    healthy.chdir(tmp_path)
    others = "COMPOSE_PROJECT_NAME=x\nPOSTGRES_PASSWORD=y\nscopegate_port=8001\n"
    (tmp_path / ".env").write_text(f"{others}{name}=false\n")
    code, findings = await examined()
    assert (code, findings["environment"]["state"]) == (0, "warning")
    misspelt = f"no settings: {name}{meant} in {tmp_path}/.env"
    assert findings["environment"]["found"].endswith(misspelt)


async def test_a_line_of_the_file_that_cant_be_read_is_found(
    healthy: Environment, tmp_path: Path
) -> None:
    healthy.chdir(tmp_path)
    (tmp_path / ".env").write_text("SCOPEGATE_PASSWORD_GRANT: false\n")
    await one_thing_is_wrong("settings", f"{tmp_path}/.env, line 1: ", "mend that")


async def test_a_password_is_never_shown(healthy: Environment, own_database_url: str) -> None:
    url = make_url(own_database_url).set(password="a-password-to-hide")
    healthy.setenv("SCOPEGATE_DATABASE_URL", url.render_as_string(hide_password=False))
    shown = await scopegate("doctor")
    assert "a-password-to-hide" not in shown.output
    assert str(url.database) in shown.output or shown.exit_code == 1


async def test_a_database_that_cant_be_reached_is_found(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_DATABASE_URL", "postgresql://u:hidden@127.0.0.1:1/n")
    await one_thing_is_wrong("database", "Connect call failed", "SCOPEGATE_DATABASE_URL")
    shown = await scopegate("doctor")
    assert "-> see that Postgres runs" in shown.stdout
    assert "hidden" not in shown.output


async def test_a_postgres_that_is_too_old_is_found(healthy: Environment) -> None:
    healthy.setattr("app.ops.doctor.OLDEST_POSTGRES", 99)
    await one_thing_is_wrong("database", "Postgres 1", "upgrade it to Postgres 99")


async def test_a_schema_that_is_behind_is_found(
    healthy: Environment, empty_database_url: str
) -> None:
    healthy.setenv("SCOPEGATE_DATABASE_URL", empty_database_url)
    await one_thing_is_wrong("schema", "at nothing", "scopegate migrate")


async def test_a_schema_of_a_later_version_will_do(
    healthy: Environment, own_runtime: Runtime
) -> None:
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    code, findings = await examined()
    assert code == 0
    assert "later version" in findings["schema"]["found"]


@pytest.mark.parametrize("forgotten", [["introspect"], ["admin"], ["read:items", "write:items"]])
async def test_a_scope_that_waits_for_a_migration_is_told_by_all_who_need_it(
    healthy: Environment, own_runtime: Runtime, forgotten: list[str]
) -> None:
    alice = await make_user(own_runtime)
    root = await make_user(own_runtime, "admin", "read:users", "write:grants")
    async with client_of(own_runtime) as client:
        token = await bearer(client, root)
        async with own_runtime.work(OPERATOR) as work:
            names = {"names": forgotten}
            await work.db.execute(text("DELETE FROM grants WHERE scope = ANY(:names)"), names)
            await work.db.execute(text("DELETE FROM scopes WHERE name = ANY(:names)"), names)
        for name in forgotten:
            remedy = f"This version ships {name}, but the database does not have it yet"
            assert remedy in await refusal("grant", alice.username, name)
            if "admin" not in forgotten:
                path = f"/users/{alice.id}/grants/{name}"
                answer = await client.put(path, headers=token)
                assert (answer.status_code, remedy in answer.text) == (404, True)
        unready = await client.get("/health/ready")
        assert unready.status_code == 503
        assert f"scopes {', '.join(forgotten)}: run scopegate migrate" in unready.text
        code, findings = await examined()
        assert (code, findings["scopes"]["state"]) == (1, "wrong")
        assert ", ".join(forgotten) in findings["scopes"]["found"]
        assert findings["scopes"]["remedy"] == "run scopegate migrate"
        await succeed("migrate")
        assert (await client.get("/health/ready")).status_code == 200
    assert (await examined())[1]["scopes"]["state"] == "ok"
    await succeed("grant", alice.username, *forgotten)


async def test_a_new_scope_waits_for_a_migration(
    healthy: Environment, own_runtime: Runtime
) -> None:
    """As a developer adds one."""
    healthy.setitem(SHIPPED, "read:orders", "Read orders")
    alice = await make_user(own_runtime)
    assert "run scopegate migrate" in await refusal("grant", alice.username, "read:orders")
    await one_thing_is_wrong("scopes", "read:orders", "scopegate migrate")
    await succeed("migrate")
    await succeed("grant", alice.username, "read:orders")
    assert (await examined())[0] == 0


async def test_a_feed_that_listens_to_another_database_is_found(
    healthy: Environment, server_url: str
) -> None:
    healthy.setenv("SCOPEGATE_REVOCATION_BOUND", "0.5")
    other = databases.database_url(server_url, "postgres")
    healthy.setenv("SCOPEGATE_LISTEN_DATABASE_URL", other)
    await one_thing_is_wrong("change feed", "do not come through", "to the same database directly")


async def test_a_feed_that_listens_at_another_server_is_found(
    healthy: Environment, own_postgres: OwnPostgres
) -> None:
    healthy.setenv("SCOPEGATE_LISTEN_DATABASE_URL", own_postgres.url)
    await one_thing_is_wrong("change feed", "another server", "the same server")


async def test_triggers_that_are_off_are_found_and_migrate_puts_them_back(
    healthy: Environment, own_runtime: Runtime
) -> None:
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("ALTER TABLE grants DISABLE TRIGGER ALL"))
        await work.db.execute(text("DROP TRIGGER never_rewritten ON audit_entries"))
        # Of this table no trigger is left.
        for name in ("insert", "truncate"):
            await work.db.execute(text(f"DROP TRIGGER scopes_notify_{name} ON scopes"))
    await one_thing_is_wrong("triggers", "grants.grants_notify_insert is off", "scopegate migrate")
    await one_thing_is_wrong("triggers", "never_rewritten is missing", "scopegate migrate")
    await one_thing_is_wrong("triggers", "scopes_notify_truncate is missing", "scopegate migrate")
    assert (await scopegate("migrate")).exit_code == 0
    code, findings = await examined()
    assert (code, findings["triggers"]["state"]) == (0, "ok")


async def test_a_database_that_takes_no_writes_is_found(
    healthy: Environment, own_runtime: Runtime
) -> None:
    async with own_runtime.engine.connect() as connection:
        name = await connection.scalar(text("SELECT current_database()"))
        read_only = f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
        await connection.execute(text(read_only))
        await connection.commit()
    await one_thing_is_wrong("database", "takes no writes", "promote a standby")


async def test_a_feed_that_cant_be_reached_is_found(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_LISTEN_DATABASE_URL", "postgresql://u@127.0.0.1:1/n")
    await one_thing_is_wrong("change feed", "Connect call failed", "SCOPEGATE_LISTEN_DATABASE_URL")


async def test_keys_of_another_secret_are_found(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_SECRET_KEYS", "another-secret-for-the-tests-987654321")
    await one_thing_is_wrong("keys", "", "set SCOPEGATE_SECRET_KEYS to the one used before")


async def test_that_no_key_signs_is_found(healthy: Environment, own_runtime: Runtime) -> None:
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("UPDATE signing_keys SET retires_at = now()"))
    await one_thing_is_wrong("keys", "no key to sign with", "scopegate key rotate --now")


async def test_before_the_first_start_there_need_be_no_key(
    healthy: Environment, own_runtime: Runtime
) -> None:
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("DELETE FROM signing_keys"))
    for _ in range(2):
        code, findings = await examined()
        assert (code, findings["keys"]["found"]) == (0, "none yet: the first start makes one")


async def test_that_nobody_holds_admin_for_good_is_found(
    environment: Environment, own_runtime: Runtime
) -> None:
    root = await make_user(own_runtime, "admin", username="root")
    for broken in (
        "UPDATE grants SET expires_at = now() + '1 hour' WHERE user_id = :id",
        "DELETE FROM grants WHERE user_id = :id",
    ):
        async with own_runtime.work(OPERATOR) as work:
            await work.db.execute(text(broken), {"id": root.id})
        await one_thing_is_wrong("admin", "no enabled user", "migrate --first-admin")


async def test_the_doctor_finds_an_only_admin_who_cant_sign_in(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, "admin")
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("UPDATE users SET password_hash = NULL"))
    await one_thing_is_wrong("admin", "can sign in", "a password or a secret")


async def test_a_clock_that_is_off_is_a_warning(healthy: Environment) -> None:
    fast = SimpleNamespace(time=lambda: time.time() + 3600, monotonic=time.monotonic)
    healthy.setattr("app.ops.doctor.time", fast)
    code, findings = await examined()
    assert (code, findings["clock"]["state"]) == (0, "warning")
    # To within half of the round trip in which the database was asked.
    assert re.search(r"\+(3599\.[5-9]|3600\.[0-4])", findings["clock"]["found"])
    assert "NTP" in findings["clock"]["remedy"]


async def test_an_http_issuer_in_production_is_a_warning(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_ENVIRONMENT", "production")
    code, findings = await examined()
    assert (code, findings["issuer"]["state"]) == (0, "warning")
    assert "SCOPEGATE_ISSUER" in findings["issuer"]["remedy"]
    healthy.setenv("SCOPEGATE_ISSUER", "https://auth.example")
    code, findings = await examined()
    assert (code, findings["issuer"]["state"]) == (0, "ok")


async def test_settings_that_cant_be_are_found(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_SECRET_KEYS", "changeme")
    await one_thing_is_wrong("settings", "SCOPEGATE_SECRET_KEYS: a secret of 8", "settings.md")


async def test_a_server_of_mail_that_refuses_is_found(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_MAIL_FROM", "no-reply@shop.test")
    healthy.setenv("SCOPEGATE_SMTP_URL", "smtp://shop:a-password-to-hide@127.0.0.1:1")
    await one_thing_is_wrong("mail", "127.0.0.1:1: the server can't be reached", "SMTP_URL")
    assert "a-password-to-hide" not in (await scopegate("doctor")).output
    _, findings = await examined()
    assert findings["mail from"]["state"] == "warning"
    async with mail_server() as server:
        healthy.setenv("SCOPEGATE_SMTP_URL", f"smtp://127.0.0.1:{server.port}?tls=off")
        healthy.setenv("SCOPEGATE_MAIL_FROM", "no-reply@shop.com")
        code, findings = await examined()
    assert (code, findings["mail"]["state"], findings["mail from"]["state"]) == (0, "ok", "ok")
    assert findings["mail"]["found"] == f"127.0.0.1:{server.port} greets, in the clear"
    assert server.taken == []


async def test_production_without_mail_is_a_warning(healthy: Environment) -> None:
    healthy.setenv("SCOPEGATE_ENVIRONMENT", "production")
    code, findings = await examined()
    assert (code, findings["mail"]["state"]) == (0, "warning")
    assert "docs/how-to/deliver-mail.md" in findings["mail"]["remedy"]


async def test_mails_that_wait_for_long_are_found(
    healthy: Environment, own_runtime: Runtime
) -> None:
    await write(own_runtime, Mail("test", "bob@example.com", {}))
    _, findings = await examined()
    assert findings["outbox"]["state"] == "ok"
    async with own_runtime.sessions.begin() as db:
        await db.execute(text("UPDATE outbox SET created_at = created_at - interval '16 minutes'"))
    code, findings = await examined()
    assert (code, findings["outbox"]["state"]) == (0, "warning")
    assert findings["outbox"]["found"] == "1 wait, the oldest for 16 minutes"
