"""Client id metadata documents: applications that nobody has registered sign people in."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx2
import pytest
from sqlalchemy import func, select

from app.access import client_documents, fetching
from app.access.client_documents import (
    ClientDocumentRefused,
    ClientDocuments,
    TooManyLookups,
)
from app.access.client_registry import ClientChanges, change_client, delete_client
from app.access.fetching import is_public
from app.errors import Refused
from app.identity.models import Registration
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.browsing import Application, PersonsBrowser, answered
from tests.support.described import CALLBACK, Describing, describing, make_certificate
from tests.support.factories import OPERATOR, Someone, bearer, make_user
from tests.support.processes import until

ASKING: dict[str, Any] = {"address": "203.0.113.5", "now": datetime.now(UTC)}


@pytest.fixture
async def described() -> AsyncIterator[Describing]:
    async with describing() as server:
        yield server


@asynccontextmanager
async def browsing(runtime: Runtime, *hosts: str) -> AsyncIterator[PersonsBrowser]:
    """A browser of a service that fetches documents of these hosts; without any, of all."""
    browser = PersonsBrowser.of(replace(runtime, client_documents=ClientDocuments(hosts)))
    async with browser.client:
        yield browser


@pytest.fixture
async def own(
    runtime: Runtime, described: Describing, alice: Someone
) -> AsyncIterator[PersonsBrowser]:
    """Alice's browser, of a service that fetches the server's documents."""
    async with browsing(runtime, f"127.0.0.1:{described.port}") as browser:
        assert (await browser.sign_in(alice)).status_code == 303
        yield browser


async def rows(runtime: Runtime) -> int:
    async with runtime.sessions() as db:
        like = Registration.client_id.startswith("http")
        return await db.scalar(select(func.count()).where(like)) or 0


async def refusal(browser: PersonsBrowser, url: str) -> str:
    """The page for an application with this id, which must say what is wrong, and lead nowhere."""
    answer = await browser.authorize(Application(url, CALLBACK))
    assert answer.status_code == 400, answer.text
    assert CALLBACK not in answer.text
    return answer.text


async def test_an_application_that_describes_itself_signs_a_person_in(
    runtime: Runtime, own: PersonsBrowser, described: Describing, alice: Someone
) -> None:
    app = Application(described.url, CALLBACK)
    page = await own.authorize(app)
    assert "An app (127.0.0.1)" in page.text, "the host that answers for it"
    assert await rows(runtime) == 0, "nothing is written before somebody has agreed"
    code = answered(await own.decide(page))["code"]
    tokens = await app.tokens(own.client, code)
    assert await tokens.status("/items") == 200
    assert (await app.refresh(own.client, tokens.refresh_token)).status_code == 200
    assert await rows(runtime) == 1
    async with runtime.sessions() as db:
        (entry,) = await told(db, "client.created")
        assert entry[2] == {
            "client_id": described.url,
            "name": "An app (127.0.0.1)",
            "redirect_uris": [CALLBACK],
        }
    # Their consent is remembered, as for a registered client's https address.
    assert "code" in answered(await own.authorize(app))
    listed = (await own.client.get("/users/me/applications", headers=tokens.header)).json()
    assert [each["client_id"] for each in listed["items"]] == [described.url]
    assert len(described.asked) == 1, "what was fetched is used again"
    assert "Host: 127.0.0.1" in described.asked[0]


async def test_it_is_no_trusted_client_and_changes_nobodys_account(
    own: PersonsBrowser, described: Describing
) -> None:
    tokens = await own.let_in(Application(described.url, CALLBACK), scope=None)
    assert "admin" not in tokens.tokens["scope"].split()
    ended = await own.client.delete("/users/me/sessions", headers=tokens.header)
    assert ended.status_code == 403


async def test_an_admin_who_lets_it_in_gives_it_no_admin(
    runtime: Runtime, described: Describing
) -> None:
    root = await make_user(runtime, "admin")
    async with browsing(runtime, "127.0.0.1") as browser:
        await browser.sign_in(root)
        app = Application(described.url, CALLBACK)
        answer = await browser.authorize(app, scope="admin")
        assert answer.status_code == 400
        assert "None of the scopes" in answer.text
        tokens = await browser.let_in(app, scope=None)
        assert "admin" not in tokens.tokens["scope"].split()


async def test_nobody_makes_it_trusted_and_an_admin_may_lower_its_ceiling(
    runtime: Runtime, own: PersonsBrowser, described: Describing
) -> None:
    app = Application(described.url, CALLBACK)
    tokens = await own.let_in(app, scope="read:items write:items")
    async with runtime.work(OPERATOR) as work:
        for changes in ({"trusted": True}, {"name": "x"}, {"redirect_uris": [CALLBACK]}):
            with pytest.raises(Refused):
                await change_client(work, described.url, cast(ClientChanges, changes))
    async with runtime.work(OPERATOR) as work:
        await change_client(work, described.url, {"scopes": ["write:items"]})
    assert await tokens.status("/items") == 403
    answer = await own.authorize(app, scope="read:items")
    assert answered(answer)["error"] == "invalid_scope"


async def test_what_its_document_says_now_counts(
    own: PersonsBrowser, described: Describing
) -> None:
    other = "https://other.example/callback"
    described.changes = {"redirect_uris": [other], "client_name": "Another"}
    await own.let_in(Application(described.url, other))
    answer = await own.authorize(Application(described.url, CALLBACK))
    assert answer.status_code == 400


async def test_withdrawing_the_consent_or_deleting_the_client_ends_its_sessions(
    runtime: Runtime, own: PersonsBrowser, described: Describing
) -> None:
    app = Application(described.url, CALLBACK)
    for times in (1, 2):
        tokens = await own.let_in(app)
        assert await tokens.status("/items") == 200
        async with runtime.work(OPERATOR) as work:
            await delete_client(work, described.url)
        assert await tokens.status("/items") == 401
        assert await rows(runtime) == times, "its next life is another row"


async def test_a_page_gives_a_code_once_and_for_this_document_alone(
    own: PersonsBrowser, described: Describing
) -> None:
    page = await own.authorize(Application(described.url, CALLBACK))
    forged = page.text.replace("client.json", "other.json")
    answer = await own.decide(httpx2.Response(200, text=forged))
    assert answer.status_code in {400, 403}
    assert "code" in answered(await own.decide(page))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"client_id": "https://app.example/other.json"}, "client_id is not the address"),
        ({"client_id": None}, "client_id is not the address"),
        ({"redirect_uris": []}, "names no redirect URIs"),
        ({"redirect_uris": "https://app.example/"}, "names no redirect URIs"),
        ({"redirect_uris": ["http://app.example/callback"]}, "A redirect URI is https"),
        ({"redirect_uris": ["/console"]}, "A redirect URI is https"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "a way to authenticate"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "a way to authenticate"),
        ({"client_secret": "secret"}, "a way to authenticate"),
        ({"grant_types": ["client_credentials"]}, "authorization code grant"),
        ({"grant_types": 1}, "authorization code grant"),
    ],
)
async def test_a_document_that_is_unfit_is_refused_with_the_reason(
    own: PersonsBrowser, described: Describing, changes: dict[str, Any], why: str
) -> None:
    described.changes = changes
    assert why in await refusal(own, described.url)


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"[" * 5000, b'"' + b"\xff" + b'"'])
async def test_what_is_no_document_is_refused(
    own: PersonsBrowser, described: Describing, body: bytes
) -> None:
    described.body = body
    assert "It is no JSON." in await refusal(own, described.url) or body == b"[]"


async def test_a_redirect_is_not_followed(own: PersonsBrowser, described: Describing) -> None:
    described.status, described.headers["Location"] = "302 Found", "/else.json"
    assert "can&#39;t be fetched" in await refusal(own, described.url)
    assert len(described.asked) == 1


@pytest.mark.parametrize("declared", [True, False])
async def test_a_document_has_5_kb_at_most(
    own: PersonsBrowser, described: Describing, declared: bool
) -> None:
    described.changes = {"padding": "x" * 5 * 1024}
    if not declared:
        described.headers["Content-Length"] = "1000000000"
    assert "more than 5 KB" in await refusal(own, described.url)


async def test_a_document_says_that_it_is_json(own: PersonsBrowser, described: Describing) -> None:
    described.headers["Content-Type"] = "text/html"
    assert "It is no JSON." in await refusal(own, described.url)
    described.headers["Content-Type"] = "application/cimd+json; charset=utf-8"
    assert (await own.authorize(Application(described.url, CALLBACK))).status_code == 200


async def test_an_error_is_never_kept(own: PersonsBrowser, described: Describing) -> None:
    described.status = "500 Oh"
    await refusal(own, described.url)
    described.status = "200 OK"
    assert (await own.authorize(Application(described.url, CALLBACK))).status_code == 200


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", 300),
        ("no-store", 300),
        ("no-store, max-age=3600", 300),
        ("max-age=10", 300),
        ("public, max-age=3600", 3600),
        ("max-age=999999999", 86400),
    ],
)
async def test_a_document_is_kept_as_its_headers_say_between_5_minutes_and_a_day(
    own: PersonsBrowser,
    described: Describing,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    seconds: int,
) -> None:
    moment = 1000.0
    monkeypatch.setattr(client_documents, "monotonic", lambda: moment)
    described.headers["Cache-Control"] = said
    app = Application(described.url, CALLBACK)
    await own.authorize(app)
    moment += seconds - 1
    await own.authorize(app)
    assert len(described.asked) == 1
    moment += 2
    await own.authorize(app)
    assert len(described.asked) == 2


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),  # noqa: S104
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::127.0.0.1"),
        *("192.88.99.1", "192.0.0.8", "3fff::1"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1"),
        *("2002:7f00:1::1", "2001::1", "fec0::1", "100::1"),
    ],
)
def test_a_special_address_is_none_of_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450::1"])
def test_other_addresses_are(address: str) -> None:
    assert is_public(address)


async def test_without_named_hosts_nothing_on_a_private_network_is_asked(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name is, and although its certificate is good."""
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path)))
    async with describing(tmp_path) as server, browsing(runtime) as browser:
        for host in ("localhost", "127.0.0.1", "localhost.", "2130706433", "0177.0.0.1"):
            url = f"https://{host}:{server.port}/client.json"
            assert "can&#39;t be fetched" in await refusal(browser, url)
        assert server.asked == []
    async with describing(tmp_path) as server, browsing(runtime, "localhost") as browser:
        answer = await browser.authorize(Application(server.url, CALLBACK))
        assert answer.status_code == 303, "named, so it may be private"
        assert answer.headers["location"].startswith("sign-in?")


async def test_the_address_that_was_checked_is_the_one_that_is_asked(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere a moment later (DNS rebinding) is looked up once."""
    asked: list[str] = []

    async def addresses(host: str) -> list[str]:
        asked.append(host)
        return ["203.0.113.7"] if len(asked) > 1 else ["127.0.0.1", "8.8.8.8"]

    async def connect(*_: object, **__: object) -> None:
        pytest.fail("it was connected to")

    monkeypatch.setattr(fetching, "_addresses", addresses)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    async with browsing(runtime) as browser:
        await refusal(browser, "https://rebinding.example/client.json")
    assert asked == ["rebinding.example"]


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    runtime: Runtime, tmp_path: Path
) -> None:
    make_certificate(tmp_path)
    async with describing(tmp_path) as server, browsing(runtime, "localhost") as browser:
        assert "can&#39;t be fetched" in await refusal(browser, server.url)
        assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example/client.json",
        "https://app.example",
        "https://app.example/",
        "https://app.example/a/../client.json",
        "https://app.example/./client.json",
        "https://user@app.example/client.json",
        "https://user:password@app.example/client.json",
        "https://app.example/client.json#fragment",
        "https://app.example:0/client.json",
        "https://app.example:99999/client.json",
        "https://[::1/client.json",
        "https://APP.example/client.json",
        "https:app.example/client.json",
        "https:///client.json",
        "https://app.example/" + "x" * 1000,
    ],
)
async def test_an_id_that_is_no_address_of_a_document_is_refused_and_nothing_is_asked(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    async def fetch(*_: object, **__: object) -> None:
        pytest.fail("it was asked")

    monkeypatch.setattr(client_documents, "fetch", fetch)
    async with browsing(runtime) as browser:
        assert "Its address is none that this service fetches" in await refusal(browser, url)


async def test_with_named_hosts_no_other_is_asked(runtime: Runtime, described: Describing) -> None:
    for named in ("app.example", f"127.0.0.1:{described.port + 1}", "localhost"):
        async with browsing(runtime, named) as browser:
            assert "none that this service fetches" in await refusal(browser, described.url)
    assert described.asked == []


async def test_what_takes_too_long_is_given_up(
    own: PersonsBrowser, described: Describing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MOST_SECONDS", 0.2)
    described.waits = asyncio.Event()
    assert "can&#39;t be fetched" in await refusal(own, described.url)
    described.waits.set()


async def test_of_many_who_ask_for_one_document_it_is_fetched_once(described: Describing) -> None:
    """Also when the first of them goes away."""
    described.waits = asyncio.Event()
    documents = ClientDocuments(["127.0.0.1"])
    asking = [asyncio.create_task(documents.get(described.url, **ASKING)) for _ in range(5)]
    while not described.asked:
        await asyncio.sleep(0.01)
    asking[0].cancel()
    described.waits.set()
    found = await asyncio.gather(*asking[1:])
    assert {each.client_id for each in found} == {described.url}
    assert len(described.asked) == 1


async def test_no_more_than_a_few_documents_are_fetched_at_once(
    own: PersonsBrowser, described: Describing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_documents, "MOST_AT_ONCE", 1)
    described.waits = asyncio.Event()
    first = asyncio.create_task(own.authorize(Application(described.url, CALLBACK)))
    while not described.asked:
        await asyncio.sleep(0.01)
    other = Application(described.url.replace("client", "other"), CALLBACK)
    assert (await own.authorize(other)).status_code == 503
    described.waits.set()
    assert (await first).status_code == 200


async def test_no_more_documents_are_kept_than_the_most(
    own: PersonsBrowser, described: Describing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_documents, "MOST_KEPT", 2)
    for name in ("a", "b", "c", "a"):
        url = described.url.replace("client", name)
        described.changes = {"client_id": url}
        assert (await own.authorize(Application(url, CALLBACK))).status_code == 200
    assert len(described.asked) == 4, "the oldest was fetched anew"


async def test_unless_it_is_switched_on_no_document_is_fetched_and_earlier_clients_are_unknown(
    runtime: Runtime, own: PersonsBrowser, described: Describing, signed_in: PersonsBrowser
) -> None:
    await own.let_in(Application(described.url, CALLBACK))
    assert runtime.client_documents is None
    assert "is not registered" in await refusal(signed_in, described.url)
    path = "/.well-known/oauth-authorization-server"
    for browser, is_on in ((own, True), (signed_in, False)):
        metadata = (await browser.client.get(path)).json()
        assert metadata["client_id_metadata_document_supported"] is is_on


async def test_a_name_that_is_none_is_shown_as_the_host(
    own: PersonsBrowser, described: Describing
) -> None:
    for name in ("", "x" * 101, "a\nb", 7, None, "\u202egnp.exe"):
        described.changes = {"client_name": name, "client_id": f"{described.url}?{name!r:.3}"}
        described.changes["client_id"] = described.url.replace("client", f"n{abs(hash(name))}")
        page = await own.authorize(Application(described.changes["client_id"], CALLBACK))
        assert "<strong>127.0.0.1</strong>" in page.text


def slowly(*_: object, **__: object) -> list[Any]:
    """What looking a name up does where a stranger's name server does not answer."""
    ANSWERED.wait(10)
    return []


ANSWERED = threading.Event()


async def test_names_that_are_looked_up_slowly_stop_no_other_lookup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The way to the database begins with one. Only documents have to wait."""
    real = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **named: Any) -> Any:
        return slowly() if host.endswith(".example") else real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(fetching, "MOST_SECONDS", 0.2)
    ANSWERED.clear()
    before = threading.active_count()
    try:
        for _ in range(3):
            documents = ClientDocuments()
            urls = [f"https://{number}.example/client.json" for number in range(20)]
            asking = [
                documents.get(url, address=f"203.0.113.{number}", now=datetime.now(UTC))
                for number, url in enumerate(urls)
            ]
            found = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(each) for each in found} == {ClientDocumentRefused}
        assert threading.active_count() - before <= fetching.MOST_LOOKUPS
        waiting = [each for each in threading.enumerate() if each.name == "client-document"]
        assert len(waiting) == fetching.MOST_LOOKUPS
        assert all(each.daemon for each in waiting), "the process does not wait for them at its end"
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            assert await loop.getaddrinfo("127.0.0.1", 80)
    finally:
        ANSWERED.set()
    await until(lambda: threading.active_count() <= before + 1)


async def test_one_network_has_few_documents_fetched_in_a_minute(
    own: PersonsBrowser, described: Describing
) -> None:
    for number in range(11):
        url = described.url.replace("client", f"n{number}")
        described.changes = {"client_id": url}
        answer = await own.authorize(Application(url, CALLBACK))
        assert answer.status_code == (503 if number == 10 else 200)
    assert len(described.asked) == 10


async def test_of_one_host_few_documents_are_fetched_at_once(described: Describing) -> None:
    described.waits = asyncio.Event()
    documents = ClientDocuments(["127.0.0.1"])
    urls = [described.url.replace("client", f"n{number}") for number in range(4)]
    asking = [asyncio.create_task(documents.get(url, **ASKING)) for url in urls]
    with pytest.raises(TooManyLookups):
        await asking[3]
    described.waits.set()
    await asyncio.gather(*asking, return_exceptions=True)
    assert len(described.asked) == 3


async def test_the_service_does_not_fetch_from_itself(runtime: Runtime) -> None:
    documents = ClientDocuments(["127.0.0.1"], issuer="http://127.0.0.1:8000")
    with pytest.raises(ClientDocumentRefused, match="none that this service fetches"):
        await documents.get("http://127.0.0.1:8000/authorize", **ASKING)


@pytest.mark.parametrize("who", ["nobody", "alice"])
async def test_a_strangers_document_learns_nothing_of_who_visits_it_and_leads_nowhere(
    runtime: Runtime, own: PersonsBrowser, described: Describing, who: str
) -> None:
    if who == "nobody":
        own.client.cookies.clear()
    app = Application(described.url, CALLBACK)
    for changes in (
        {"prompt": "none"},
        {"prompt": "none", "scope": "read:users"},
        {"scope": "read:users", "prompt": "none consent"},
        {"response_type": "token"},
    ):
        answer = await own.authorize(app, **changes)
        assert answer.status_code == 400
        assert "location" not in answer.headers
    if who == "alice":
        await own.let_in(app)
        assert "code" in answered(await own.authorize(app, prompt="none"))
        assert answered(await own.authorize(app, response_type="token"))["error"]


async def test_who_has_agreed_to_one_host_is_asked_again_for_another(
    runtime: Runtime, own: PersonsBrowser, described: Describing, app: Application
) -> None:
    """Who controls the document, or may change the client, gets no codes by it."""
    await own.let_in(Application(described.url, CALLBACK))
    taken = "https://mallory.example/callback"
    later = ClientDocuments([f"127.0.0.1:{described.port}"])
    described.changes = {"redirect_uris": [taken, CALLBACK]}
    browser = PersonsBrowser.of(replace(runtime, client_documents=later))
    async with browser.client:
        browser.client.cookies = own.client.cookies
        assert (await browser.authorize(Application(described.url, taken))).status_code == 200
        assert "code" in answered(await browser.authorize(Application(described.url, CALLBACK)))
    await own.let_in(app)
    async with runtime.work(OPERATOR) as work:
        await change_client(work, app.client_id, {"redirect_uris": [taken]})
    moved = Application(app.client_id, taken)
    page = await own.authorize(moved)
    assert page.status_code == 200, "registered clients too"
    await own.decide(page)
    assert "code" in answered(await own.authorize(moved))


async def test_by_the_api_it_is_shown_deleted_and_withdrawn(
    runtime: Runtime, own: PersonsBrowser, described: Describing, alice: Someone
) -> None:
    await own.let_in(Application(described.url, CALLBACK))
    root, at = await bearer(own.client, await make_user(runtime, "admin")), quote(described.url, "")
    shown = await own.client.get(f"/clients/{at}", headers=root)
    assert shown.json()["client_id"] == described.url
    mine = await bearer(own.client, alice)
    withdrawn = await own.client.delete(f"/users/me/applications/{at}", headers=mine)
    assert withdrawn.status_code == 204
    lower = await own.client.patch(f"/clients/{at}", json={"scopes": []}, headers=root)
    assert lower.status_code == 200
    assert (await own.client.delete(f"/clients/{at}", headers=root)).status_code == 204
    assert (await own.client.get(f"/clients/{at}", headers=root)).status_code == 404
