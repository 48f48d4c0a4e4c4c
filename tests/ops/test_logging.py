"""What a serving process writes: a line an event, and nothing that is anybody's secret."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from app.db.work import Actor, Work
from app.identity.account_writes import add_user, disable_user
from app.identity.users import NewUser
from app.main import create_app
from app.ops.logging import configure_logging
from app.runtime import Runtime
from app.settings import Settings
from tests.conftest import client_of
from tests.support.canaries import BASIC, CANARY, live_secrets, plant_canaries
from tests.support.factories import OPERATOR, PASSWORD, make_user
from tests.support.logs import REQUEST_KEYS, lines_of, requests_of
from tests.support.processes import serving


@contextmanager
def logging_as_production(settings: Settings) -> Iterator[None]:
    """This process logs as production does; then as it did."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(settings.model_copy(update={"environment": "production"}))
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.mark.system
def test_no_secret_is_ever_logged(settings: dict[str, Any]) -> None:
    with serving(**settings) as service:
        with httpx2.Client(base_url=service.url) as client:
            secrets = live_secrets(client)
            bearer = {"Authorization": f"Bearer {secrets[2]}"}
            asked = plant_canaries(client, bearer)
            with service.connect() as connection:
                connection.sendall(f"{CANARY} /{CANARY} {CANARY}\r\n\r\n".encode())
                assert b"400" in connection.recv(1000)
        # The line of a request is written when its answer is out: the last one may be yet to come.
        service.terminate()
        output = service.output()
    assert len(requests_of(output)) == asked + 4
    for secret in (CANARY, BASIC, *secrets):
        assert secret not in output
        assert secret.replace(" ", "+") not in output
        assert secret.replace(" ", "%20") not in output
    assert {frozenset(line) for line in requests_of(output)} == {frozenset(REQUEST_KEYS)}
    assert {line["route"] for line in requests_of(output)} > {None, "/users/{user_id}", "/token"}
    # uvicorn's own word about what is no HTTP.
    assert [line["level"] for line in lines_of(output) if line["logger"] == "uvicorn.error"] == [
        "warning"
    ]


@pytest.mark.system
def test_a_request_is_one_line_with_who_what_and_how_long(settings: dict[str, Any]) -> None:
    with serving(trusted_proxies="127.0.0.1", **settings) as service:
        with httpx2.Client(base_url=service.url) as client:
            form = {"username": "root", "password": PASSWORD}
            answer = client.post("/token", data=form, headers={"X-Request-Id": "from-the-proxy"})
            bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            me = [client.get("/users/me", headers=bearer) for _ in range(2)]
            client.get("/health/live")
            client.get("/health/ready")
            client.get("/metrics")
            junk = ['{"a": 1}', "x" * 65, "", "a b", "a;b"]
            made = [
                client.get("/nowhere", headers={"X-Request-Id": each}).headers["x-request-id"]
                for each in junk
            ]
        service.terminate()
        output = service.output()
    token, first, again, *nowhere = requests_of(output)
    assert (token["method"], token["route"], token["status"]) == ("POST", "/token", 200)
    assert token["request_id"] == answer.headers["x-request-id"] == "from-the-proxy"
    assert 0 < token["database_ms"] < token["duration_ms"]
    assert token["user_id"] is None
    assert first["user_id"] == again["user_id"] == me[0].json()["id"]
    assert first["database_ms"] > again["database_ms"] == 0
    assert again["request_id"] == me[1].headers["x-request-id"]
    assert [line["request_id"] for line in nowhere] == made
    assert not set(made) & set(junk)
    assert {(line["route"], line["status"]) for line in nowhere} == {(None, 404)}
    (login,) = [line for line in lines_of(output) if line["event"] == "login.succeeded"]
    assert login["request_id"] == "from-the-proxy"
    assert (login["level"], login["subject"]) == ("info", first["user_id"])
    # And nothing of what libraries do meanwhile, at each probe of readiness say.
    assert {line["logger"].partition(".")[0] for line in lines_of(output)} == {"app"}


async def test_only_a_trusted_proxy_names_a_request(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/health/live", headers={"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] != "mine"


async def test_a_crash_is_logged_once_with_where_and_without_what(
    runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(runtime.settings)
    app.state.runtime = runtime

    @app.get("/crash")
    async def crash() -> None:
        secret = CANARY
        try:
            int(secret)
        except ValueError as error:
            raise KeyError(secret) from error

    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://scopegate.test") as client:
        with logging_as_production(runtime.settings):
            assert (await client.get("/crash")).status_code == 500
            await asyncio.sleep(0)  # The line is written at the end of the turn.
    output = capsys.readouterr()
    # Beside the client's own.
    (line,) = [line for line in lines_of(output.out) if line["logger"].startswith("app.")]
    assert (line["level"], line["route"], line["status"]) == ("error", "/crash", 500)
    assert line["trace"].index("builtins.ValueError") < line["trace"].index("builtins.KeyError")
    assert "raise KeyError(secret) from error" in line["trace"]
    assert CANARY not in output.out + output.err


async def test_what_is_audited_is_logged_and_what_is_undone_is_not(
    own_runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.audit.log")
    user = await make_user(own_runtime)
    assert caplog.messages == ["user.created"]
    caplog.clear()
    async with client_of(own_runtime) as client:
        wrong = {"username": user.username, "password": "wrong"}
        await client.post("/token", data=wrong)
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("WARNING", "login.failed")
    ]
    caplog.clear()

    class Undone(Exception):
        pass

    async def disable_and_undo() -> None:
        async with own_runtime.work(OPERATOR) as work:
            await disable_user(work, user.id)
            raise Undone

    async def add_and_undo(work: Work[Actor]) -> None:
        async with work.savepoint():
            await add_user(work, NewUser("nobody", "person", None))
            raise Undone

    with pytest.raises(Undone):
        await disable_and_undo()
    async with own_runtime.work(OPERATOR) as work:
        with pytest.raises(Undone):
            await add_and_undo(work)
        async with work.savepoint():
            await add_user(work, NewUser("ben", "person", None))
        assert caplog.messages == []
    assert caplog.messages == ["user.created"]
