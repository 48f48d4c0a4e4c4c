"""Words that a service is told in every way there is, to be looked for where they must not be."""

import base64

import httpx2

from tests.conftest import SECRET
from tests.support.factories import PASSWORD

CANARY = "canary-7f3a"
BASIC = base64.b64encode(f"{CANARY}:{CANARY}".encode()).decode()


def plant_canaries(client: httpx2.Client, bearer: dict[str, str]) -> int:
    """Ask everything in every way that could hold a secret; how many requests that were."""
    fields = [
        *("username", "password", "scope", "client_id", "client_secret", "refresh_token"),
        *("token", "current_password", "new_password", "grant_type", CANARY),
    ]
    body = dict.fromkeys(fields, CANARY)
    hints = {"Cookie": f"session={CANARY}", "Referer": CANARY, "User-Agent": CANARY}
    hints |= {"X-Request-Id": CANARY, "X-Forwarded-For": CANARY}
    credentials: list[dict[str, str]] = [
        {},
        bearer,
        {"Authorization": f"Bearer {CANARY}"},
        {"Authorization": f"Basic {BASIC}"},
        {"Authorization": CANARY},
    ]
    paths = [
        *("/token", "/revoke", "/introspect", "/users", "/users/me/password", "/items"),
        *(f"/users/{CANARY}", f"/items/{CANARY}", f"/scopes/{CANARY}%0a%22", f"/{CANARY}"),
    ]
    asked = 0
    for headers in credentials:
        headers = headers | hints
        for path in paths:
            client.get(path, params=body, headers=headers)
            client.post(path, data=body, params=body, headers=headers)
            client.post(path, json=body, headers=headers)
            asked += 3
        for grant in ("password", "refresh_token", "client_credentials"):
            client.post("/token", data={**body, "grant_type": grant}, headers=headers)
            asked += 1
    return asked


def live_secrets(client: httpx2.Client) -> list[str]:
    """Sign in, refresh, make a service and its token; all that must stay between the two."""
    login = client.post("/token", data={"username": "root", "password": PASSWORD}).json()
    refreshed = client.post(
        "/token",
        data={"grant_type": "refresh_token", "refresh_token": login["refresh_token"]},
    ).json()
    bearer = {"Authorization": f"Bearer {refreshed['access_token']}"}
    service = client.post(
        "/users", json={"username": "robot", "kind": "service"}, headers=bearer
    ).json()
    issued = client.post(
        "/token",
        data={"grant_type": "client_credentials"},
        auth=("robot", service["client_secret"]),
    ).json()
    tokens = [
        each[kind] for each in (login, refreshed) for kind in ("access_token", "refresh_token")
    ]
    return [*tokens, service["client_secret"], issued["access_token"], PASSWORD, SECRET]
