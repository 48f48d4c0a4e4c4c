"""What one request of a stranger costs the event loop, on every route, with the worst that fits.

In this process and without a network: the bytes go into the server's own protocol, so all work
counts, from the parser to the answer. Other threads' work does not count. The threads that hash
passwords hold the interpreter's lock while they normalise one: that is measured apart.
"""

import asyncio
import base64
import ipaddress
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from uvicorn.server import ServerState

from app.identity.passwords import normalise_password
from app.main import create_app
from app.runtime import Runtime
from app.server.connections import Connection, ServerConfig
from bench.contestants import prepare_scopegate, scopegate_settings
from bench.effort import Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.postgres import Postgres
from bench.progress import say

ROOM = 30 * 1024
"""Of one header, or of the path: a little less than the server takes of all."""
FORM = "application/x-www-form-urlencoded"
ID = "00000000-0000-0000-0000-000000000000"
MARKS = "%CC%A3%CC%81"
_addresses = itertools.count(0x0A000000)


@dataclass(frozen=True)
class Input:
    """Something that a stranger sends, beside method and path."""

    name: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    suffix: str = ""
    """Of the path."""
    beside: str = "plain"
    """What it is compared with: the input of the request that does the same with little."""


@dataclass(frozen=True)
class Cost:
    """What one request cost."""

    route: str
    input: str
    size: int
    status: int
    milliseconds: float
    beyond: float
    """Milliseconds more than the same route's plain request."""


async def measure(postgres: Postgres, population: Population, effort: Effort) -> list[Cost]:
    """Measure all routes, the least cost first."""
    database = await postgres.create("strangers")
    await prepare_scopegate(database, population)
    settings = scopegate_settings(database, cors_origins="https://app.example")
    async with Runtime.open(settings) as runtime:
        app = create_app(settings)
        app.state.runtime = runtime
        config = ServerConfig(settings, create_app)
        config.load()
        config.loaded_app = app
        following = asyncio.create_task(runtime.feed.run())
        try:
            costs = [each async for each in _measured(app.openapi()["paths"], config, effort)]
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
    costs += _normalised(effort)
    return sorted(costs, key=lambda cost: cost.beyond)


async def _measured(
    paths: dict[str, Any], config: ServerConfig, effort: Effort
) -> AsyncIterator[Cost]:
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    pages = ["/docs", "/console", "/console/assets/main.js", "/docs/assets/swagger-ui.css"]
    routes += [("GET", page) for page in [*pages, "/openapi.json", "/metrics", "/nowhere"]]
    for method, path in routes:
        say(f"{method} {path}")
        url = path.format(scope="x", name="x", **dict.fromkeys(PARAMETERS, ID))
        least: dict[str, float] = {}
        for each in (*_anywhere(), *_bodies()):
            if each.body and method == "GET":
                continue
            raw = _request(method, url, each)
            status, cost = await _least(raw, config, effort)
            least[each.name] = cost
            beyond = cost - least.get(each.beside, cost)
            yield Cost(f"{method} {path}", each.name, len(raw), status, cost, beyond)


PARAMETERS = ("user_id", "item_id", "session_id", "secret_id")


def _anywhere() -> Iterator[Input]:
    """What fits into any request."""

    def header(name: str, value: str) -> Input:
        return Input(f"{name}: {value[:12]}…", ((name, value),))

    yield Input("plain")
    yield Input("query of parameters", suffix="?" + "a&" * (ROOM // 2))
    yield Input("query of distinct parameters", suffix="?" + "&".join(map(str, range(5500))))
    yield Input("query of escapes", suffix="?limit=" + "%41" * (ROOM // 3))
    yield Input("path", suffix="/x" * (ROOM // 2))
    yield Input("path of escapes", suffix="%41" * (ROOM // 3))
    yield Input("headers", tuple((f"{number:x}", "") for number in range(4000)))
    yield header("Cookie", "a;" * (ROOM // 2))
    yield header("Cookie", 'a="\\1' + "\\101" * (ROOM // 4) + '"')
    yield header("X-Forwarded-For", "," * ROOM)
    yield header("X-Forwarded-For", "1.1.1.1," * (ROOM // 8))
    yield header("Content-Type", FORM + ";" * ROOM)
    yield header("Content-Type", "application/json" + ';a="b"' * (ROOM // 6))
    yield header("Accept", "a/b," * (ROOM // 4))
    yield header("If-None-Match", "a," * (ROOM // 2))
    yield header("If-Modified-Since", "1 " * (ROOM // 2))
    yield header("Range", "bytes=" + "1-2," * (ROOM // 4))
    yield header("Host", "a." * (ROOM // 2))
    yield header("User-Agent", "a" * ROOM)
    yield header("Connection", "upgrade," + "," * ROOM)
    yield header("Authorization", "Bearer " + "a" * ROOM)
    yield header("Authorization", "Bearer sgo_" + "a" * ROOM)
    for name, text in JSON_HEADERS.items():
        yield Input(f"Authorization: JWT with {name}", (("Authorization", f"Bearer {_jwt(text)}"),))
        yield Input(
            f"Authorization: 7 KiB of JWT with {name}",
            (("Authorization", f"Bearer {_jwt(text, 5 * 1024)}"),),
        )
    yield header("Authorization", "Basic " + "eDo" + "lNDE" * (ROOM // 4))
    yield Input(
        "preflight",
        (
            ("Origin", "https://app.example"),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "," * ROOM),
        ),
    )


JSON_HEADERS = {
    "nesting": "[",
    "numbers": "1e1,",
    "objects": '{"a":1},',
    "escapes": "\\u0041",
}


def _jwt(repeated: str, size: int = ROOM) -> str:
    text = repeated * (size * 3 // 4 // len(repeated))
    if repeated == "\\u0041":
        text = f'{{"kid":"{text}"}}'
    elif repeated != "[":
        text = f'{{"kid":[{text}1]}}'
    encoded = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    return f"{encoded}.e30.AAAA"


def login_of(username: str) -> bytes:
    return f"grant_type=password&password=x&token=x&username={username}".encode()


def _bodies() -> Iterator[Input]:
    """What fits into a body."""
    form, json = (("Content-Type", FORM),), (("Content-Type", "application/json"),)
    start = b"grant_type=refresh_token&token=x&refresh_token=x"
    yield Input("plain login", form, login_of("x"), beside="")
    yield Input("plain client", form, start + b"&client_id=x&client_secret=x", beside="")
    large, limit = 256 * 1024 - 64, 16 * 1024 - 128
    for size, name in ((limit, "form of 16 KiB"), (large, "form of 256 KiB")):
        yield Input(f"{name}: scope of names", form, start + b"&scope=" + b"a+" * (size // 2))
        yield Input(f"{name}: scope of spaces", form, start + b"&scope=" + b"+" * size)
        yield Input(f"{name}: escapes", form, start + b"&x=" + b"%41" * (size // 3))
        letters = b"&scope=" + b"%E1%BE%82" * (size // 9)
        yield Input(f"{name}: escaped letters", form, start + letters)
        yield Input(f"{name}: refresh token", form, start + b"A" * size)
        yield Input(f"{name}: token", form, b"token=sgr_" + b"A" * size)
        yield Input(f"{name}: parameters", form, start + b"&a" * (size // 2))
        jwt = _jwt("[", size).encode()
        yield Input(f"{name}: JWT", form, b"token=" + jwt)
        client = b"&client_secret=x&client_id=" + b"%CC%A3%CC%81" * (size // 12)
        yield Input(f"{name}: client of marks", form, start + client, beside="plain client")
    names = b"+".join(b"%d" % number for number in range(800))
    yield Input("form: scope of 4 KiB, distinct names", form, start + b"&scope=" + names)
    yield Input("form: scope of 4 KiB", form, start + b"&scope=" + b"a+" * 2047)
    for name, username in {
        "marks": MARKS * 256,
        "hidden marks": "%E0%BD%B3" * 512,
        "accents": "%E1%BE%82" * 127,
        "letters": "%C3%A9" * 127,
        "ligatures": "%EF%B7%BA" * 28,
        "wide letters": "%EF%BD%81" * 512,
    }.items():
        yield Input(f"form: user of {name}", form, login_of(username), beside="plain login")
    yield Input("JSON of floats", json, b"[" + b"1e1," * (large // 4) + b"1]")
    yield Input("JSON of objects", json, b"[" + b'{"a":1},' * (large // 8) + b"1]")
    yield Input("JSON of escapes", json, b'{"title":"' + b"\\u0041" * (large // 6) + b'"}')
    yield Input("JSON of long integers", json, b"[" + (b"9" * 4299 + b",") * 60 + b"1]")
    yield Input("JSON that is deep", json, b"[" * large)
    pieces = b"%x\r\n" % (200 * 1024) + b"a" * 200 * 1024 + b"\r\n" + b"1\r\na\r\n" * 5000
    for extra in ((), (("Connection", "upgrade," + "," * 8000), ("Upgrade", "x"))):
        chunked = (*form, ("Transfer-Encoding", "chunked"), *extra)
        yield Input(f"chunks of a byte{', upgrade' * bool(extra)}", chunked, pieces + b"0\r\n\r\n")


def _request(method: str, url: str, given: Input) -> bytes:
    names = {name for name, _ in given.headers}
    usual = (("Host", "scopegate.example"), ("Connection", "close"))
    fields = [*(each for each in usual if each[0] not in names), *given.headers]
    if "Transfer-Encoding" not in names and (given.body or method != "GET"):
        fields.append(("Content-Length", str(len(given.body))))
    if given.name == "preflight":
        method = "OPTIONS"
    lines = [f"{name}: {text}" for name, text in fields]
    head = "\r\n".join([f"{method} {url}{given.suffix} HTTP/1.1", *lines, "", ""])
    return head.encode("latin-1") + given.body


class _Wire(asyncio.Transport):
    """A connection that leads nowhere: keeps the answer, and tells when it is all there."""

    def __init__(self) -> None:
        # Another address each time: else the throttle would refuse what is to be measured.
        address = str(ipaddress.IPv4Address(next(_addresses)))
        super().__init__({"peername": (address, 4711), "sockname": ("192.0.2.2", 80)})
        self.answer = bytearray()
        self.whole = asyncio.Event()
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answer += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.whole.set()

    abort = close

    def pause_reading(self) -> None:
        """Nothing: all has been read."""

    resume_reading = pause_reading


class _Server(Connection):
    """The server's side, which tells when its answer is out."""

    def on_response_complete(self) -> None:
        super().on_response_complete()
        assert isinstance(self.transport, _Wire)
        self.transport.whole.set()


async def _least(raw: bytes, config: ServerConfig, effort: Effort) -> tuple[int, float]:
    """The status, and the loop's processor time in milliseconds: the least of several."""
    found = [await _once(raw, config) for _ in range(effort.repeats)]
    return found[0][0], min(cost for _, cost in found)


async def _once(raw: bytes, config: ServerConfig) -> tuple[int, float]:
    wire = _Wire()
    connection = _Server(config, ServerState(), {})
    connection.connection_made(wire)
    began = time.thread_time()
    connection.data_received(raw)
    try:
        async with asyncio.timeout(30):
            await wire.whole.wait()
    except TimeoutError:
        raise BenchmarkFailed(f"No answer to {raw[:60]!r}: {bytes(wire.answer[:200])!r}") from None
    took = time.thread_time() - began
    connection.connection_lost(None)
    return int(wire.answer[9:12] or 0), took * 1e3


def _normalised(effort: Effort) -> Iterator[Cost]:
    """What the hashing threads keep the interpreter for."""
    for name, password in {
        "marks": "\u0323\u0301" * 1024,
        "marks in two runs": "\u0301" * 1024 + "\u0323" * 1024,
        "hidden marks": "\u0f75\u0f73" * 1024,
        "long ligatures": "\ufdfa" * 2048,
        "accents": "\u1f82" * 512,
    }.items():
        took = []
        for _ in range(effort.repeats):
            began = time.thread_time()
            normalise_password(password)
            took.append((time.thread_time() - began) * 1e3)
        size = len(password.encode())
        yield Cost("a password's NFKC", name, size, 0, min(took), min(took))
