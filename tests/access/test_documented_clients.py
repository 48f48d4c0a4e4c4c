"""Clients that describe themselves: which documents are fetched, and the rows that come of them."""

import asyncio
import gc
import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from sqlalchemy import inspect

from app.access import client_documents
from app.access.client_documents import (
    ClientDocument,
    ClientDocumentRefused,
    ClientDocuments,
    parse_document,
)
from app.access.documented_clients import documented_client, keep_documented
from app.access.fetching import Fetched, NotFetched
from app.identity.models import ID_TOKEN_ALGORITHM
from app.runtime import Runtime
from tests.support.factories import OPERATOR

DOCUMENT = ClientDocument(
    "https://app.example/client.json", "An app", ("https://app.example/callback",)
)


async def test_before_a_person_has_let_it_in_it_is_what_it_will_be(runtime: Runtime) -> None:
    async with runtime.work(OPERATOR) as work:
        described = await documented_client(work.db, DOCUMENT)
        assert not inspect(described).persistent
        kept = await keep_documented(work, described)
    for client in (described, kept):
        assert (client.client_id, client.name) == (DOCUMENT.client_id, DOCUMENT.name)
        assert client.redirect_uris == [*DOCUMENT.redirect_uris]
        assert client.post_logout_redirect_uris == []
        assert client.trusted is False
        assert client.id_token_signed_response_alg == ID_TOKEN_ALGORITHM


@pytest.mark.parametrize(("length", "shown"), [(100, True), (101, False)])
def test_a_name_has_100_characters_at_most(length: int, shown: bool) -> None:
    name = "x" * length
    said = {
        "client_id": DOCUMENT.client_id,
        "client_name": name,
        "redirect_uris": DOCUMENT.redirect_uris,
    }
    fetched = Fetched(json.dumps(said).encode(), {"content-type": "application/json"})
    found = parse_document(DOCUMENT.client_id, fetched).name
    assert found == (f"{name} (app.example)" if shown else "app.example")


@pytest.mark.parametrize(
    ("host", "url", "fetched"),
    [
        ("localhost", "http://localhost/client.json", True),
        ("localhost", "http://localhost:8080/client.json", True),
        ("[::1]:8080", "http://[::1]:8080/client.json", True),
        ("app.example", "http://app.example/client.json", False),
        ("app.example", "https://app.example/client.json", True),
        ("app.example", "https://app.example/".ljust(1000, "x"), True),
        ("app.example", "https://app.example/".ljust(1001, "x"), False),
    ],
)
async def test_plain_http_is_for_named_hosts_of_this_machine_and_1000_characters_are_the_most(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str, fetched: bool
) -> None:
    assert await is_fetched(monkeypatch, ClientDocuments([host]), url) is fetched


async def is_fetched(monkeypatch: pytest.MonkeyPatch, documents: ClientDocuments, url: str) -> bool:
    """Whether the document with this URL is fetched; False: its address is refused."""
    said = {"client_id": url, "redirect_uris": DOCUMENT.redirect_uris}

    async def fetch(*_: object, **__: object) -> Fetched:
        return Fetched(json.dumps(said).encode(), {"content-type": "application/json"})

    monkeypatch.setattr(client_documents, "fetch", fetch)
    try:
        found = await documents.get(url, address=None, now=datetime.now(UTC))
    except ClientDocumentRefused:
        return False
    assert found.client_id == url
    return True


async def test_settings_name_the_hosts_and_the_service_itself_is_none(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = urlsplit(runtime.settings.token_issuer).netloc
    hosts = ("app.example", own)
    settings = runtime.settings.model_copy(
        update={"client_id_metadata": True, "client_id_metadata_hosts": hosts}
    )
    documents = ClientDocuments.of(settings)
    assert documents is not None
    found = {
        host: await is_fetched(monkeypatch, documents, f"https://{host}/client.json")
        for host in ("app.example", "other.example", own)
    }
    assert found == {"app.example": True, "other.example": False, own: False}


async def test_a_fetch_that_fails_after_all_have_gone_away_is_no_error_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def fetch(*_: object, **__: object) -> Fetched:
        begun.set()
        await goes_on.wait()
        raise NotFetched

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    monkeypatch.setattr(client_documents, "fetch", fetch)
    documents = ClientDocuments()
    getting = documents.get(DOCUMENT.client_id, address=None, now=datetime.now(UTC))
    asking = asyncio.create_task(getting)
    await begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    goes_on.set()
    (fetching,) = [each for each in asyncio.all_tasks() if each.get_name() == DOCUMENT.client_id]
    await asyncio.wait([fetching])
    del fetching, asking
    gc.collect()
    await asyncio.sleep(0)
    assert told == []
