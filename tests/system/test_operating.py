"""The how-to guides for operators are true: backup, restore, keys, secrets, leaks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from app.identity.account_writes import create_service
from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support.documents import SERVED_AT, Walk, walking
from tests.support.factories import OPERATOR, PASSWORD, make_user
from tests.support.postgres_programs import libpq_url, on_path, psql
from tests.support.processes import Service, environment, eventually, serving

ISSUER = "https://auth.example"
NEW_PASSWORD = "another horse, another staple"
HOLD_NOTHING = ("bob", "carol", "eve")


@dataclass
class SignedIn:
    """A login, and what has become of its tokens."""

    tokens: dict[str, Any]

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def status(self, service: Service) -> int:
        """What the service answers to the access token."""
        return httpx2.get(f"{service.url}/users/me", headers=self.bearer).status_code

    def refresh(self, service: Service) -> int:
        """Use the refresh token, and go on with its successor; what is answered."""
        form = {"grant_type": "refresh_token", "refresh_token": self.tokens["refresh_token"]}
        answer = httpx2.post(f"{service.url}/token", data=form)
        if answer.status_code == 200:
            self.tokens = answer.json()
        return answer.status_code


def sign_in(service: Service, username: str, password: str = PASSWORD) -> SignedIn:
    answer = httpx2.post(f"{service.url}/token", data={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return SignedIn(answer.json())


def audit_ids(service: Service, admin: SignedIn) -> list[str]:
    """The ids of all audit entries, newest first."""
    answer = httpx2.get(f"{service.url}/audit", params={"limit": 100}, headers=admin.bearer)
    page = answer.json()
    assert page["next"] is None
    return [entry["id"] for entry in page["items"]]


@dataclass
class Operator:
    """A reader of the guides, and services to try them on."""

    database_url: str
    walk: Walk
    replacing: dict[str, str]

    @contextmanager
    def serving(self, secret_keys: str = SECRET) -> Iterator[Service]:
        with serving(
            database_url=self.database_url, secret_keys=secret_keys, issuer=ISSUER
        ) as service:
            self.replacing[SERVED_AT] = service.url
            yield service


@pytest.fixture
async def robots_secret(own_database_url: str) -> str:
    """The secret of the service account that is there beside people."""
    async with Runtime.open(settings_for(own_database_url)) as runtime:
        for name in ("admin", "mallory"):
            await make_user(runtime, "admin", username=name)
        await make_user(runtime, "read:items", username="alice")
        for name in HOLD_NOTHING:
            await make_user(runtime, username=name)
        async with runtime.work(OPERATOR) as work:
            _, secret = await create_service(work, username="robot")
            return secret.value


def test_operating_does_what_it_says(
    own_database_url: str, empty_database_url: str, robots_secret: str, tmp_path: Path
) -> None:
    database_url, restored_url = libpq_url(own_database_url), libpq_url(empty_database_url)
    settings = environment(database_url=database_url, secret_keys=SECRET, issuer=ISSUER)
    env = on_path(settings | {"RESTORED_DATABASE_URL": restored_url})
    replacing: dict[str, str] = {}
    with walking(
        "docs/how-to/monitor.md",
        "docs/how-to/back-up-and-restore.md",
        "docs/how-to/upgrade.md",
        "docs/how-to/rotate-keys-and-secrets.md",
        "docs/how-to/respond-to-a-leak.md",
        cwd=tmp_path,
        env=env,
        replacing=replacing,
    ) as walk:
        operator = Operator(database_url, walk, replacing)
        alice = a_restored_database_goes_on(operator, restored_url)
        new_secret = the_secret_changes_and_nobody_is_signed_out(operator, alice)
        with operator.serving(new_secret) as service:
            a_leaked_token_is_worth_nothing(walk, service)
            a_leaked_personal_token_is_worth_nothing(walk, service)
            a_leaked_password_is_worth_nothing(walk, service)
            a_leaked_client_secret_is_worth_nothing(walk, service, robots_secret)
            a_leaked_key_verifies_nothing_and_no_session_ends(walk, service)
            a_leaked_secret_is_worth_nothing(walk, service)
            who_climbed_is_stopped_and_undone(walk, service)


def a_restored_database_goes_on(operator: Operator, restored_url: str) -> SignedIn:
    """Who was signed in at the backup still is, who was not is not; the audit log is whole."""
    walk = operator.walk
    with operator.serving() as service:
        assert '"checks"' in walk.paste("Check health")
        alice, bob, carol = (sign_in(service, name) for name in ("alice", "bob", "carol"))
        assert alice.refresh(service) == 200
        sign_out(service, bob)
        admin = sign_in(service, "admin")
        audited = audit_ids(service, admin)
        walk.paste("Backup")
        sign_out(service, carol)
        late = sign_in(service, "alice")

    assert "wrong" not in walk.paste("Restore")
    operator.database_url = restored_url
    with operator.serving() as service:
        assert (alice.status(service), alice.refresh(service)) == (200, 200)
        assert (bob.status(service), bob.refresh(service)) == (401, 400)
        # At first it may be that this database is behind: 503, until the bound has passed.
        eventually(lambda: (late.status(service), late.refresh(service)) == (401, 400))
        assert audit_ids(service, admin) == audited
        for change in ("DELETE FROM audit_entries", "UPDATE audit_entries SET action = 'x'"):
            assert "append-only" in psql(restored_url, change).stderr

        assert carol.status(service) == 200, "as the page says: what was ended since is back"
        walk.paste("What a restored backup brings back")
        walk.paste("Erase again")
        walk.paste("Erase again")
        eventually(lambda: carol.status(service) == 401)
        assert alice.refresh(service) == 400

        alice = sign_in(service, "alice")
        walk.paste("Upgrade")
        assert service.is_ready()
        rotated = walk.paste("Rotate the signing key")
        assert re.search(r"signs.*\n.*published", rotated)
        assert alice.status(service) == 200
    return alice


def the_secret_changes_and_nobody_is_signed_out(operator: Operator, alice: SignedIn) -> str:
    """Replicas are restarted one by one, so two settings at a time have to get on; the new one."""
    walk = operator.walk
    steps = walk.paste("Change the secret")
    second, first = re.findall(r"SCOPEGATE_SECRET_KEYS=(.+)", steps)
    new_secret: str = first.split(",")[0]
    with operator.serving() as before, operator.serving(second) as one:
        left_alone = sign_in(before, "alice")
        assert [alice.refresh(each) for each in (before, one, before)] == [200] * 3
        before.terminate()
        with operator.serving(first) as other:
            assert [alice.refresh(each) for each in (other, one, other)] == [200] * 3
            one.terminate()
            assert "Rewrapped 3 keys" in walk.paste("Change the secret")
            assert alice.status(other) == 200
    walk.paste("Change the secret")
    with operator.serving(new_secret) as service:
        assert (alice.status(service), alice.refresh(service)) == (200, 200)
        assert left_alone.refresh(service) == 400, "as the page says: it is of the old secret"
    return new_secret


def a_leaked_token_is_worth_nothing(walk: Walk, service: Service) -> None:
    thief = sign_in(service, "alice")
    walk.given(TOKEN=thief.tokens["access_token"])
    walk.paste("A token")
    assert (thief.status(service), thief.refresh(service)) == (401, 400)
    thief = sign_in(service, "alice")
    assert "login.succeeded" in walk.paste("A token")
    eventually(lambda: thief.status(service) == 401)


def a_leaked_personal_token_is_worth_nothing(walk: Walk, service: Service) -> None:
    alice = sign_in(service, "alice")
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"name": "backup", "scopes": ["read:items"], "expires_at": ends}
    url = f"{service.url}/users/me/tokens"
    made = httpx2.post(url, json=body, headers=alice.bearer).json()
    thief = SignedIn({"access_token": made["token"]})
    assert thief.status(service) == 200
    walk.given(TOKEN_ID=made["id"])
    seen = walk.paste("A personal access token")
    assert made["id"] in seen
    assert "token.made" in seen
    eventually(lambda: thief.status(service) == 401)
    assert alice.status(service) == 200


def a_leaked_password_is_worth_nothing(walk: Walk, service: Service) -> None:
    thief = sign_in(service, "alice")
    assert "password.changed" in walk.paste("A password")
    eventually(lambda: thief.status(service) == 401)
    with pytest.raises(AssertionError, match="invalid_grant"):
        sign_in(service, "alice")
    sign_in(service, "alice", NEW_PASSWORD)


def a_leaked_client_secret_is_worth_nothing(walk: Walk, service: Service, leaked: str) -> None:
    def robot(secret: str) -> httpx2.Response:
        form = {"grant_type": "client_credentials"}
        return httpx2.post(f"{service.url}/token", data=form, auth=("robot", secret))

    thief = SignedIn(robot(leaked).json())
    shown = walk.paste("A service account's secret")
    made = re.search(r"client_secret (\S+)", shown)
    older, newer = re.findall(r"^([0-9a-f-]{36})  ", shown.split("secret_id ")[-1], re.M)
    assert made
    assert f"secret id {newer}" in shown
    walk.given(SECRET_ID=older)
    walk.paste("A service account's secret")
    eventually(lambda: thief.status(service) == 401)
    assert (robot(leaked).status_code, robot(made[1]).status_code) == (401, 200)


def a_leaked_key_verifies_nothing_and_no_session_ends(walk: Walk, service: Service) -> None:
    alice = sign_in(service, "alice", NEW_PASSWORD)
    leaked = jwt.get_unverified_header(alice.tokens["access_token"])["kid"]
    assert leaked in walk.paste("A signing key")
    assert alice.status(service) == 200
    walk.given(KID=leaked)
    walk.paste("A signing key")
    eventually(lambda: alice.status(service) == 401)
    assert alice.refresh(service) == 200
    assert alice.status(service) == 200


def a_leaked_secret_is_worth_nothing(walk: Walk, service: Service) -> None:
    alice = sign_in(service, "alice", NEW_PASSWORD)
    walk.paste("The secret")
    eventually(lambda: alice.status(service) == 401)
    assert alice.refresh(service) == 400


def who_climbed_is_stopped_and_undone(walk: Walk, service: Service) -> None:
    mallory, eve = sign_in(service, "mallory"), sign_in(service, "eve")
    eves_id = httpx2.get(f"{service.url}/users/me", headers=eve.bearer).json()["id"]
    grant = f"{service.url}/users/{eves_id}/grants/write:users"
    assert httpx2.put(grant, headers=mallory.bearer).status_code == 204
    done = walk.paste("An account with too much access")
    assert re.search(r"grant\.made.*mallory.*eve", done)
    eventually(lambda: mallory.status(service) == 401)
    walk.paste("An account with too much access")
    eventually(lambda: eve.status(service) == 401)
    assert sign_in(service, "eve").tokens["scope"] == ""


def sign_out(service: Service, who: SignedIn) -> None:
    answer = httpx2.delete(f"{service.url}/users/me/sessions", headers=who.bearer)
    assert answer.status_code == 204
