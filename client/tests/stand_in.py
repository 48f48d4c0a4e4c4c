"""A stand-in for Scopegate: a real server on loopback that does what the contract says, or not.

A test tells it what is true, what to send on its streams, and how to fail.
"""

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate
from jwt.algorithms import ECAlgorithm

from scopegate_client import Scopegate

PATIENCE = 30.0  # seconds: a deadline against hanging, not a budget
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
OWN = "urn:scopegate:event:"
DAY = 86_400_000


@dataclass
class Key:
    """A signing key."""

    kid: str = field(default_factory=lambda: secrets.token_hex(4))
    private: EllipticCurvePrivateKey = field(default_factory=lambda: generate(SECP256R1()))

    def public_jwk(self) -> dict[str, Any]:
        """Return the key as it is published."""
        jwk = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**jwk, "kid": self.kid, "alg": "ES256", "use": "sig"}


@dataclass(eq=False)
class OpenStream:
    """A stream that a client has opened."""

    headers: dict[str, str]
    writer: asyncio.StreamWriter
    silent: bool = False
    """Sends no beats by itself."""

    def send(self, event: str, data: object) -> None:
        """Send a frame."""
        self.raw(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    def cut(self) -> None:
        """Close the connection without a word."""
        self.writer.close()


class StandIn:
    """The server. `asked` has the paths of all requests, in their order."""

    def __init__(self) -> None:
        self.issuer = ""
        self.ahead = DAY
        """Milliseconds by which the database's clock is ahead of this machine's."""
        self.keys = [Key()]
        self.more_keys: list[dict[str, Any]] = []
        """Published too."""
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.streams: list[OpenStream] = []
        self.answers: dict[str, dict[str, Any]] = {}
        """What introspection answers of a token; of any other that it is not active."""
        self.statuses: dict[str, int] = {}
        """Statuses that are answered instead, by path. 0: the connection is cut."""
        self.retry_after = "0"
        self.held = asyncio.Event()
        """Cleared: introspection is computed, but its answer does not leave."""
        self.held.set()
        self.bound, self.beat, self.token_lifetime = 5000, 50, 900.0
        self.hello: dict[str, Any] = {}
        """What the next hellos say instead."""
        self.resumes = True
        self.silent = False
        self.complete_since: int | None = None
        """Of streams that don't resume; None: from the moment of the request."""
        self.events: list[tuple[int, dict[str, Any]]] = []

    def now(self) -> int:
        """Return the milliseconds of the database's clock."""
        return int(time.time() * 1000) + self.ahead

    def second(self) -> int:
        """Return the second of the database's clock."""
        return self.now() // 1000

    def token(self, scope: str = "read:orders", **claims: Any) -> str:
        """Issue a JWT, and have introspection know it. It is of this second unless told."""
        said = self.claims(scope, **claims)
        headers = {"kid": self.keys[-1].kid, "typ": "at+jwt"}
        token = jwt.encode(said, self.keys[-1].private, algorithm="ES256", headers=headers)
        self.know(token, said)
        return token

    def opaque(self, scope: str = "read:orders", **claims: Any) -> str:
        """Issue an opaque token."""
        token = f"sgo_{secrets.token_urlsafe(32)}"
        self.know(token, self.claims(scope, **claims))
        return token

    def claims(self, scope: str = "read:orders", **claims: Any) -> dict[str, Any]:
        """Return the claims of a new token of a session and a user of its own."""
        second = self.second()
        said = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": str(uuid.uuid4()),
            "client_id": "scopegate",
            "sid": str(uuid.uuid4()),
            "jti": str(uuid.uuid4()),
            "iat": second,
            "exp": second + 900,
            "scope": scope,
        }
        return said | claims

    def know(self, token: str, said: dict[str, Any]) -> None:
        """Have introspection say this of the token."""
        self.answers[token] = {"active": True, "token_type": "bearer", "username": "alice"} | said

    def event(self, kind: str, about: dict[str, Any], second: int | None = None) -> None:
        """Have something happen: all streams hear of it, also those that resume."""
        said = self.set(kind, about, second)
        self.events.append((self.now(), said))
        for stream in self.streams:
            stream.send("set", said)

    def set(self, kind: str, about: dict[str, Any], second: int | None = None) -> dict[str, Any]:
        """Return a Security Event Token's claims."""
        second = self.second() if second is None else second
        return {
            "iss": self.issuer,
            "jti": secrets.token_hex(8),
            "iat": second,
            "sub_id": about,
            "events": {kind: {"event_timestamp": second}},
        }

    def user(self, token: str) -> dict[str, str]:
        """Return the subject of events about the user of a token."""
        return {"format": "iss_sub", "iss": self.issuer, "sub": self.answers[token]["sub"]}

    def session(self, token: str) -> dict[str, Any]:
        """Return the subject of events about the session of a token."""
        session = {"format": "opaque", "id": self.answers[token]["sid"]}
        return {"format": "complex", "user": self.user(token), "session": session}

    def end_session(self, token: str) -> None:
        """End a token's session, as a sign-out does."""
        about = self.session(token)
        self.answers[token] = {"active": False}
        self.event(f"{CAEP}session-revoked", about)

    def count(self, path: str) -> int:
        """Return how many requests came for a path."""
        return self.asked.count(path)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["StandIn"]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._connections: set[asyncio.Task[None]] = set()
        beating = asyncio.create_task(self._beat())
        try:
            yield self
        finally:
            beating.cancel()
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(beating, *self._connections, return_exceptions=True)

    def client(self, **options: Any) -> Scopegate:
        """Return a client of this server."""
        given = {"client_id": "orders", "client_secret": "a secret: of + 100%"} | options
        return Scopegate(self.issuer, **given)

    async def _beat(self) -> None:
        while True:
            for stream in self.streams:
                if not (stream.silent or self.silent):
                    stream.send("beat", {"through": self.now()})
            await asyncio.sleep(self.beat / 1000)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = head[0].split()[1]
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked.append(path)
                self.headers.append(headers)
                await self._answer(path, headers, body.decode(), writer, reader)
        finally:
            writer.close()

    async def _answer(
        self,
        path: str,
        headers: dict[str, str],
        body: str,
        writer: asyncio.StreamWriter,
        reader: asyncio.StreamReader,
    ) -> None:
        form = {name: values[0] for name, values in parse_qs(body).items()}
        status = self.statuses.get(path, 200)
        if status == 0:
            return
        if status != 200:
            await _respond(
                writer, status, {"error": "told"}, f"Retry-After: {self.retry_after}\r\n"
            )
        elif path == "/events":
            await self._stream(headers, writer, reader)
        elif path == "/introspect":
            said = self.answers.get(form["token"], {"active": False})
            await self.held.wait()
            await _respond(writer, 200, said)
        elif path == "/token":
            assert form["grant_type"] == "client_credentials"
            said = {"access_token": f"own-{self.count(path)}", "expires_in": self.token_lifetime}
            await _respond(writer, 200, said)
        else:
            assert path == "/.well-known/jwks.json", path
            keys = [key.public_jwk() for key in self.keys]
            await _respond(writer, 200, {"keys": keys + self.more_keys})

    async def _stream(
        self,
        headers: dict[str, str],
        writer: asyncio.StreamWriter,
        reader: asyncio.StreamReader,
    ) -> None:
        now, through = self.now(), int(headers.get("scopegate-through", 0))
        resumed = bool(through) and self.resumes
        since = through if resumed else now if self.complete_since is None else self.complete_since
        hello = {
            "v": 1,
            "iss": self.issuer,
            "nonce": headers["scopegate-nonce"],
            "now": now,
            "complete_since": since,
            "resumed": resumed,
            "beat": self.beat,
            "bound": self.bound,
        }
        stream = OpenStream(headers, writer)
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        stream.raw(head.encode())
        stream.send("hello", hello | self.hello)
        for at, said in self.events:
            if resumed and at >= through:
                stream.send("set", said)
        self.streams.append(stream)
        try:
            await reader.read()
        finally:
            self.streams.remove(stream)


async def _respond(
    writer: asyncio.StreamWriter, status: int, content: object, more: str = ""
) -> None:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(f"{head}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


async def until(condition: Callable[[], object]) -> None:
    """Wait until it comes true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def following(stand_in: StandIn, **options: Any) -> AsyncIterator[Scopegate]:
    """Yield a client whose stream is fresh, and for which tokens of the past count."""
    stand_in.complete_since = 0
    scopegate = stand_in.client(**options)
    async with scopegate.lifespan():
        await until(lambda: scopegate.state.fresh)
        yield scopegate
