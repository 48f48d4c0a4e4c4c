"""Sample data for development: three people, a service account, grants and items.

They come in by the doors that everybody uses: `scopegate` commands and HTTP requests.
"""

import json
import secrets
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from app.settings import PROJECT

ADMIN, WRITER, READER = "sample-admin", "sample-writer", "sample-reader"
SERVICE = "sample-service"
SCOPES = {
    ADMIN: ["admin"],
    WRITER: ["read:items", "write:items"],
    READER: ["read:items"],
    SERVICE: ["introspect", "read:items"],
}
TEMPORARY = "read:users"
"""A scope that the reader holds for a week only."""
ITEMS = {
    "Desk lamp": "Warm light, on the second shelf",
    "Office chair": "Lent out until Friday",
    "Notebook": None,
}
TIMEOUT = 30.0  # seconds
DIRECT = build_opener(ProxyHandler({}))
"""Opens URLs of this machine, without a proxy that the environment may name."""


@dataclass(frozen=True)
class SampleData:
    """The secrets of the sample accounts. The three people have one password."""

    password: str
    client_secret: str


def sample_data(home: Path, url: str) -> SampleData:
    """Return the sample data of this home folder; create it at the service if it is not there.

    Raises OSError when the service refuses a request, CalledProcessError when a command fails.
    """
    file = home / "sample-data.json"
    if file.exists():
        return SampleData(**json.loads(file.read_text()))
    password = secrets.token_urlsafe(12)
    people = [f"{name},{password},{' '.join(SCOPES[name])}" for name in (ADMIN, WRITER, READER)]
    report = _command(
        *("user", "import", "-"), stdin="\n".join(["username,password,scopes", *people, ""])
    )
    if report["already_there"]:
        # An earlier attempt ended half-way, so nobody knows their password.
        for name in (ADMIN, WRITER, READER):
            _scopegate("user", "password", name, stdin=password)
    _scopegate("grant", READER, TEMPORARY, "--for", "7d", "--reason", "Helps the support team")
    sample = SampleData(password, _client_secret())
    _create_items(url, password)
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(sample)))
    return sample


def _client_secret() -> str:
    """Return a secret of the service account, which is made if it is not there."""
    users = _command("user", "list", "--search", SERVICE)
    if any(each["username"] == SERVICE for each in users):
        made = _command("user", "secret", SERVICE)
    else:
        scopes = [word for scope in SCOPES[SERVICE] for word in ("--scope", scope)]
        made = _command("user", "create", SERVICE, "--service", *scopes)
    secret: str = made["client_secret"]
    return secret


def _create_items(url: str, password: str) -> None:
    form = {"grant_type": "password", "username": WRITER, "password": password}
    token = _request(f"{url}/token", urlencode(form).encode(), {})["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    if _request(f"{url}/items", None, headers)["items"]:
        return
    for title, description in ITEMS.items():
        item = {"title": title, "description": description}
        _request(f"{url}/items", json.dumps(item).encode(), headers)


def _request(url: str, body: bytes | None, headers: dict[str, str]) -> Any:
    request = Request(url, data=body, headers=headers)
    with DIRECT.open(request, timeout=TIMEOUT) as answer:
        return json.load(answer)


def _command(*arguments: str, stdin: str = "") -> Any:
    """Run a `scopegate` command and return what it prints with `--json`."""
    return json.loads(_scopegate(*arguments, "--json", stdin=stdin))


def _scopegate(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=PROJECT,
        input=stdin,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout
