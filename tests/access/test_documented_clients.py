"""Clients that describe themselves, before and after a person has let them in."""

import json

import pytest
from sqlalchemy import inspect

from app.access.client_documents import ClientDocument, parse_document
from app.access.documented_clients import documented_client, keep_documented
from app.access.fetching import Fetched
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
