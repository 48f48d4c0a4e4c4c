"""Forward authentication behind real proxies, configured as the guide has it."""

import json
import os
import shutil
import subprocess
import textwrap
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from app.access.grants import grant, revoke
from app.access.registry import register_scope
from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support import databases
from tests.support.documents import Document
from tests.support.factories import OPERATOR, PASSWORD, make_user
from tests.support.processes import PATIENCE, Service, eventually, free_port, serving

pytestmark = pytest.mark.system
GUIDE = Document("docs/how-to/forward-authentication.md")
NAMES = ("user", "preferred-username", "scope")
LONG_NAMES = [f"orders:{number:02}".ljust(128, "x") for number in range(36)]
HEADERS = [f"x-auth-request-{name}" for name in NAMES]


@dataclass(frozen=True)
class Ports:
    """Where the proxy listens, and what is behind it."""

    proxy: int
    scopegate: int
    orders: int


def block(heading: str, language: str, ports: Ports) -> str:
    """Return the guide's configuration, which names the services by their hosts."""
    (found,) = [each.text for each in GUIDE.blocks(language) if each.heading == heading]
    return found.replace("scopegate:8000", f"127.0.0.1:{ports.scopegate}").replace(
        "orders:8000", f"127.0.0.1:{ports.orders}"
    )


def nginx(ports: Ports, folder: Path, *, scopes: str = "read:orders") -> list[str | Path]:
    """Write nginx's configuration, in which the variable names these scopes; its command."""
    configuration = block("nginx", "nginx", ports)
    variable = 'set $required_scope "read:orders";'
    assert variable in configuration
    configuration = configuration.replace(variable, f'set $required_scope "{scopes}";')
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{paths}"
        f"upstream scopegate {{ server 127.0.0.1:{ports.scopegate}; keepalive 4; }}\n"
        f"upstream orders {{ server 127.0.0.1:{ports.orders}; }}\n"
        f"server {{ listen 127.0.0.1:{ports.proxy};\n{configuration}}}}}"
    )
    return ["nginx", "-c", file]


def traefik(ports: Ports, folder: Path) -> list[str | Path]:
    """Write Traefik's dynamic configuration; its command."""
    file = folder / "dynamic.yaml"
    file.write_text(block("Traefik", "yaml", ports))
    listen = f"--entryPoints.web.address=127.0.0.1:{ports.proxy}"
    quiet = ["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]
    return ["traefik", listen, f"--providers.file.filename={file}", *quiet]


def caddy(ports: Ports, folder: Path) -> list[str | Path]:
    """Write Caddy's configuration; its command."""
    file = folder / "Caddyfile"
    site = textwrap.indent(block("Caddy", "caddyfile", ports), "\t")
    file.write_text(f"{{\n\tadmin off\n}}\nhttp://127.0.0.1:{ports.proxy} {{\n{site}}}\n")
    return ["caddy", "run", "--config", file, "--adapter", "caddyfile"]


def envoy(ports: Ports, folder: Path) -> list[str | Path]:
    """Write Envoy's configuration; its command."""
    clusters = "".join(
        f"""
  - name: {name}
    connect_timeout: 2s
    load_assignment:
      cluster_name: {name}
      endpoints:
        - lb_endpoints:
            - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
"""
        for name, port in (("scopegate", ports.scopegate), ("orders", ports.orders))
    )
    filters = textwrap.indent(block("Envoy", "yaml", ports), " " * 14)
    file = folder / "envoy.yaml"
    file.write_text(
        f"""
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {ports.proxy}}}}}
      filter_chains:
        - filters:
          - name: envoy.filters.network.http_connection_manager
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: http
              route_config:
                virtual_hosts:
                  - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: orders}}}}]}}
{filters}
  clusters:{clusters}"""  # noqa: E501
    )
    return ["envoy", "-c", file, "--log-level", "error", "--disable-hot-restart"]


PROXIES: dict[str, Callable[[Ports, Path], list[str | Path]]] = {
    "nginx": nginx,
    "traefik": traefik,
    "caddy": caddy,
    "envoy": envoy,
}
SEARCHED = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
# Debian has no package of the others: they are tried where they are installed.
TRIED = [each for each in PROXIES if each == "nginx" or shutil.which(each, path=SEARCHED)]


class Orders(BaseHTTPRequestHandler):
    """A service that knows nothing of tokens: it answers with what came to it."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer with the request's headers and body."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = json.dumps({"headers": headers, "body": body, "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
async def runtime(server_url: str, template: None) -> AsyncIterator[Runtime]:
    """A database with users who read orders, and one who does not."""
    name = await databases.clone_template(server_url)
    settings = settings_for(databases.database_url(server_url, name))
    async with Runtime.open(settings) as runtime:
        async with runtime.work(OPERATOR) as work:
            for scope in ("read:orders", *LONG_NAMES):
                await register_scope(work, scope, description="")
        await make_user(runtime, "read:orders", username="jürgen")
        await make_user(runtime, "read:orders", username="carla")
        await make_user(runtime, username="bob")
        await make_user(runtime, "read:orders", *LONG_NAMES, username="of-many-scopes")
        yield runtime
    await databases.drop(server_url, name)


@pytest.fixture(scope="module")
def settings(runtime: Runtime) -> dict[str, Any]:
    """The settings of a process that serves from that database."""
    assert runtime.settings.database_url
    url = runtime.settings.database_url.get_secret_value()
    return {"database_url": url, "secret_keys": SECRET, "keep_alive_timeout": 60}


@pytest.fixture(scope="module")
def service(settings: dict[str, Any]) -> Iterator[Service]:
    """Scopegate, which serves."""
    with serving(**settings) as service:
        yield service


@pytest.fixture(scope="module")
def orders() -> Iterator[int]:
    """The port of the service behind the proxies."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Orders)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@contextmanager
def running(proxy: str, ports: Ports, folder: Path) -> Iterator[str]:
    """Run the proxy; the URL through it. Without one the test is skipped."""
    if not shutil.which(proxy, path=SEARCHED):
        if os.environ.get("CI") and proxy == "nginx":
            pytest.fail("no nginx")
        pytest.skip(f"no {proxy}")
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            PROXIES[proxy](ports, folder),
            env=os.environ | {"PATH": SEARCHED, "HOME": str(folder)},
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{ports.proxy}"
    try:
        eventually(lambda: process.poll() is not None or lets_pass(url, "") in {401, 500})
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def lets_pass(url: str, token: str) -> int:
    """Return what a request with this token is answered; 0 while the proxy can't be reached."""
    try:
        return httpx2.get(f"{url}/orders/7", headers=bearer(token)).status_code
    except httpx2.TransportError:
        return 0


def is_answered(url: str, token: str, status: int) -> bool:
    return lets_pass(url, token) == status


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


@pytest.fixture(params=TRIED)
def proxied(
    service: Service, orders: int, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """The URL through one of the proxies."""
    ports = Ports(free_port(), int(urlsplit(service.url).port or 0), orders)
    with running(request.param, ports, tmp_path) as url:
        yield url


def sign_in(service: Service, username: str) -> str:
    """Return an access token."""
    form = {"username": username, "password": PASSWORD}
    token: str = httpx2.post(f"{service.url}/token", data=form).json()["access_token"]
    return token


async def test_a_proxy_lets_pass_whom_scopegate_lets_pass_and_tells_who_it_is(
    service: Service, proxied: str, runtime: Runtime
) -> None:
    with httpx2.Client(base_url=proxied) as client:
        for token in ("", "forged", "a.b.c"):
            answer = client.get("/orders/7", headers=bearer(token))
            assert answer.status_code == 401
            assert answer.headers.get_list("www-authenticate")[0].startswith("Bearer realm=")
            assert len(answer.headers.get_list("www-authenticate")) == 1
        answer = client.get("/orders/7?scope=introspect", headers=bearer(sign_in(service, "bob")))
        assert answer.status_code == 403
        (challenge,) = answer.headers.get_list("www-authenticate")
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="read:orders"' in challenge

        token = sign_in(service, "jürgen")
        me = httpx2.get(f"{service.url}/users/me", headers=bearer(token)).json()
        forged = dict.fromkeys(HEADERS, "root")
        for method, body in (("GET", ""), ("POST", "x" * 20_000), ("PUT", "{}"), ("DELETE", "")):
            answer = client.request(
                method, "/orders/7?scope=admin&x=1", content=body, headers=forged | bearer(token)
            )
            assert answer.status_code == 200, answer.text
            came = answer.json()
            assert (came["path"], came["body"]) == ("/orders/7?scope=admin&x=1", body)
            told = [came["headers"][name] for name in HEADERS]
            assert told == [me["id"], "j%C3%BCrgen", "read:orders"]

        longest = sign_in(service, "of-many-scopes")
        assert len(longest) > 6 * 1024
        assert lets_pass(proxied, longest) == 200

        for change, expected in ((revoke, 403), (grant, 200)):
            async with runtime.work(OPERATOR) as work:
                await change(work, uuid.UUID(me["id"]), "read:orders")
            eventually(partial(is_answered, proxied, token, expected))
        httpx2.post(f"{service.url}/revoke", data={"token": token})
        assert lets_pass(proxied, token) == 401


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("read:orders%20introspect", ["read:orders", "introspect"]),
        ("read:orders+introspect", ["read:orders", "introspect"]),
        ("read:orders&scope=introspect", ["read:orders", "introspect"]),
        ("%20".join(["read:orders", *LONG_NAMES[:28]]), ["read:orders", *LONG_NAMES[:28]]),
        # Mistakes let nobody pass, not even an admin.
        ("read:orders introspect", []),
        ("read:orders,introspect", []),
        ("read:order", []),
        ("", []),
    ],
    ids=["%20", "+", "repeated", "as many as fit", "a space", "a comma", "misspelt", "empty"],
)
async def test_nginx_asks_for_as_many_scopes_as_its_variable_names(
    runtime: Runtime,
    service: Service,
    orders: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    named: list[str],
) -> None:
    monkeypatch.setitem(PROXIES, "nginx", partial(nginx, scopes=written))
    holder, other = f"holder-{uuid.uuid4()}", f"other-{uuid.uuid4()}"
    await make_user(runtime, *(named or ["admin"]), username=holder)
    await make_user(runtime, *named[:-1], username=other)
    ports = Ports(free_port(), int(urlsplit(service.url).port or 0), orders)
    with running("nginx", ports, tmp_path) as url:
        assert lets_pass(url, sign_in(service, other)) in ({403} if named else {403, 500})
        assert lets_pass(url, sign_in(service, holder)) == (200 if named else 500)


@pytest.mark.parametrize("proxy", TRIED)
def test_a_proxy_lets_nobody_pass_when_it_can_not_ask(
    settings: dict[str, Any], orders: int, proxy: str, tmp_path: Path
) -> None:
    with serving(**settings) as service:
        ports = Ports(free_port(), int(urlsplit(service.url).port or 0), orders)
        with running(proxy, ports, tmp_path) as url:
            token = sign_in(service, "carla")
            assert lets_pass(url, token) == 200
            service.terminate()
            assert lets_pass(url, token) >= 400
