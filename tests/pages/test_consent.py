"""The consent page: what it is bound to, and when it is shown."""

import pytest

from app.access.client_registry import change_client
from app.access.grants import grant, revoke
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.browsing import Application, Form, PersonsBrowser, answered, register
from tests.support.factories import OPERATOR, Someone, make_user

BOTH = "read:items write:items"


async def test_denying_or_switching_all_off_is_access_denied(
    signed_in: PersonsBrowser, app: Application
) -> None:
    every = ["read:items"]
    for decision, scopes in (("deny", every), ("allow", []), ("x", every)):
        page = await signed_in.authorize(app)
        found = answered(await signed_in.decide(page, decision=decision, scopes=scopes))
        assert found["error"] == "access_denied"
        assert "code" not in found
    assert (await signed_in.authorize(app)).status_code == 200, "and nothing is remembered"


async def test_only_what_was_shown_can_be_allowed(
    signed_in: PersonsBrowser, app: Application
) -> None:
    page = await signed_in.authorize(app)
    code = answered(await signed_in.decide(page, scopes=["read:items", "write:items"]))["code"]
    assert (await app.tokens(signed_in.client, code)).tokens["scope"] == "read:items"
    page = await signed_in.authorize(app, prompt="consent")
    forged = await signed_in.decide(page, scopes=BOTH.split(), shown=BOTH)
    assert forged.status_code == 403


async def test_the_form_is_bound_to_the_person_that_saw_it(
    signed_in: PersonsBrowser, app: Application, runtime: Runtime
) -> None:
    """The confused deputy: what one person was shown, another must not have agreed to."""
    page = await signed_in.authorize(app)
    bob = await make_user(runtime, "read:items")
    await signed_in.sign_in(bob)
    answer = await signed_in.decide(page)
    assert answer.status_code == 403
    other = PersonsBrowser.of(runtime)
    async with other.client:
        await other.sign_in(bob)
        assert (await other.decide(page)).status_code == 403
        theirs = await other.authorize(app)
        assert (await signed_in.decide(theirs)).status_code == 403


async def test_the_form_is_bound_to_the_request_that_it_was_shown_for(
    signed_in: PersonsBrowser, app: Application, runtime: Runtime
) -> None:
    other = await register(runtime, "other")
    token = Form((await signed_in.authorize(app)).text).fields["token"]
    for asked in (
        other.asking(),
        app.asking(scope=BOTH),
        app.asking(state="another"),
        app.asking(code_challenge="x" * 43),
    ):
        data = {"token": token, "shown": "read:items", "scope": "read:items", "decision": "allow"}
        answer = await signed_in.client.post("/consent", params=asked, data=data)
        assert answer.status_code == 403, asked


async def test_a_consent_page_gives_one_code(runtime: Runtime, signed_in: PersonsBrowser) -> None:
    app = await register(runtime, "tool", redirect_uris=["http://127.0.0.1/"])
    page = await signed_in.authorize(app)
    assert "code" in answered(await signed_in.decide(page))
    again = await signed_in.decide(page)
    assert again.headers["location"].startswith("authorize?"), "the person is asked anew"
    shown = await signed_in.client.get(f"/{again.headers['location']}")
    assert Form(shown.text).scopes == ["read:items"]


async def test_no_get_gives_a_code_that_no_person_confirmed(
    signed_in: PersonsBrowser, app: Application
) -> None:
    for _ in range(2):
        assert (await signed_in.authorize(app)).status_code == 200
    assert (await signed_in.client.get("/consent", params=app.asking())).status_code == 405


async def test_a_consent_is_remembered_for_what_it_covers(
    signed_in: PersonsBrowser, app: Application
) -> None:
    await signed_in.code(app, scope=BOTH)
    for scope in ("read:items", BOTH):
        assert "code" in answered(await signed_in.authorize(app, scope=scope, prompt="none"))
    assert (await signed_in.authorize(app, prompt="consent")).status_code == 200
    page = await signed_in.authorize(app, scope=BOTH, prompt="consent")
    await signed_in.decide(page, scopes=["read:items"])
    assert (await signed_in.authorize(app, scope=BOTH)).status_code == 200, "one was switched off"
    assert "code" in answered(await signed_in.authorize(app, scope="read:items"))


async def test_switching_a_scope_off_takes_it_from_tokens_that_were_issued(
    signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app, scope=BOTH)
    assert await tokens.status("/items") == 200
    page = await signed_in.authorize(app, scope=BOTH, prompt="consent")
    await signed_in.decide(page, scopes=["write:items"])
    assert await tokens.status("/items") == 403


async def test_what_was_not_shown_stays_as_it_was(
    signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app, scope="write:items")
    await signed_in.code(app, scope="read:items")
    fresh = await app.refresh(signed_in.client, tokens.refresh_token)
    assert fresh.json()["scope"] == "write:items", "nor does a consent widen what was issued"


@pytest.mark.parametrize("uri", ["http://127.0.0.1/cb", "http://localhost/cb", "com.example.a:/cb"])
async def test_no_consent_is_remembered_for_a_program_on_a_device(
    runtime: Runtime, signed_in: PersonsBrowser, uri: str
) -> None:
    """Any program there could take its place (RFC 8252 §8.6)."""
    app = await register(runtime, "tool", redirect_uris=[uri])
    for _ in range(2):
        page = await signed_in.authorize(app)
        assert "on this device" in page.text
        assert "code" in answered(await signed_in.decide(page))
    assert answered(await signed_in.authorize(app, prompt="none"))["error"] == "consent_required"


async def test_a_consent_is_one_clients_and_not_that_of_another_with_its_name(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    await signed_in.code(app)
    namesake = await register(runtime, "namesake")
    assert (await signed_in.authorize(namesake)).status_code == 200


async def test_a_consent_is_one_persons(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    await signed_in.code(app)
    await signed_in.sign_in(await make_user(runtime, "read:items"))
    assert (await signed_in.authorize(app)).status_code == 200


async def test_a_trusted_client_asks_nobody_unless_it_wants_to(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    app = await register(runtime, "ours", trusted=True)
    tokens = await signed_in.let_in(app, prompt="none")
    assert await tokens.status("/items") == 200
    assert (await signed_in.authorize(app, prompt="consent")).status_code == 200
    async with runtime.work(OPERATOR) as work:
        await change_client(work, "ours", {"trusted": False})
    assert await tokens.status("/items") == 403, "she was never asked"
    assert (await signed_in.authorize(app)).status_code == 200


async def test_what_a_person_lost_meanwhile_cant_be_allowed(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    page = await signed_in.authorize(app, scope=BOTH)
    async with runtime.work(OPERATOR) as work:
        await revoke(work, alice.id, "write:items")
    code = answered(await signed_in.decide(page))["code"]
    assert (await app.tokens(signed_in.client, code)).tokens["scope"] == "read:items"
    async with runtime.work(OPERATOR) as work:
        await grant(work, alice.id, "write:items")
    assert (await signed_in.authorize(app, scope=BOTH)).status_code == 200


async def test_consents_are_audited(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    await signed_in.code(app)
    async with runtime.sessions() as db:
        ((actor, subject, detail),) = await told(db, "consent.given")
    assert (actor, subject) == (alice.id, alice.id)
    assert detail == {"client_id": "app", "scopes": ["read:items"]}
