"""Applications that describe themselves: a server for their documents, which answers as told."""

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CALLBACK = "https://app.example/callback"


@dataclass
class Describing:
    """A server of documents: what it answers, and what it was asked."""

    port: int = 0
    scheme: str = "http"
    host: str = "127.0.0.1"
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    changes: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    """In place of the document."""
    waits: asyncio.Event | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The client id."""
        return f"{self.scheme}://{self.host}:{self.port}/client.json"

    @property
    def document(self) -> dict[str, Any]:
        """What it says of itself."""
        about = {"client_id": self.url, "client_name": "An app", "redirect_uris": [CALLBACK]}
        return about | self.changes

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self.waits is not None:
            await self.waits.wait()
        body = json.dumps(self.document).encode() if self.body is None else self.body
        headers = {"Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status}", *(f"{each}: {headers[each]}" for each in headers)]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        writer.close()


@asynccontextmanager
async def describing(tls: Path | None = None) -> AsyncIterator[Describing]:
    """Serve documents while the block runs; by https with the key and certificate in a folder."""
    server, context = Describing(), None
    if tls is not None:
        server.scheme, server.host = "https", "localhost"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "certificate.pem", tls / "key.pem")
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def make_certificate(folder: Path) -> Path:
    """Write a key and a certificate for `localhost`, which is its own authority; its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    # Not of its address: who connects must ask for the name.
    names = [x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    kind, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, kind, plain))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(encoding))
    return folder / "certificate.pem"
