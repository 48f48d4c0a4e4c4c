"""TLS to a real Postgres, by the options of a database URL: what they demand is made true."""

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import URL, make_url, text

from app.db.engine import connect_apart, create_engine
from app.db.primary import Primary
from app.db.url import normalise_url
from tests.conftest import settings_for
from tests.support.faults import connect_plainly
from tests.support.processes import free_port

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass
class Authority:
    """Whoever signs certificates, with what it has signed as files in a folder."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self.certificate = self._sign(self.name, self.key.public_key(), ca=True)
        self.file = self._write(f"{self.name}.crt", self.certificate.public_bytes(PEM))

    def issue(self, name: str) -> tuple[Path, Path, x509.Certificate]:
        """A certificate and a key as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), ca=False)
        private = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (
            self._write(f"{self.name}-{name}.crt", certificate.public_bytes(PEM)),
            self._write(f"{self.name}-{name}.key", private),
            certificate,
        )

    def revoke(self, *revoked: x509.Certificate) -> Path:
        """A list of the certificates that it has revoked, as a file."""
        builder = x509.CertificateRevocationListBuilder(
            self.certificate.subject, NOW - DAY, NOW + DAY
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder(each.serial_number, NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        crl = builder.sign(self.key, hashes.SHA256())
        return self._write(f"{self.name}-{len(revoked)}.crl", crl.public_bytes(PEM))

    def _sign(self, name: str, key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = x509.CertificateBuilder(
            issuer, subject, key, x509.random_serial_number(), NOW - DAY, NOW + DAY
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
        if not ca:
            names = x509.SubjectAlternativeName([x509.DNSName(name)])
            builder = builder.add_extension(names, False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path


PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Tls:
    """Postgres behind TLS: `localhost` by its certificate, which one authority has signed."""

    upstream: URL
    port: int
    own: Authority
    other: Authority
    certificate: x509.Certificate
    shown: list[str]
    """The names in the client certificates that it was shown, oldest first."""

    def url(self, host: str = "localhost", **options: object) -> str:
        query = {name: str(value) for name, value in options.items()}
        parts = self.upstream.set(drivername="postgresql", host="HOST", port=self.port, query=query)
        return parts.render_as_string(hide_password=False).replace("HOST", host)


@pytest.fixture(scope="module")
async def tls(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tls]:
    """The tests' Postgres with TLS before it: the embedded one is built without."""
    folder = tmp_path_factory.mktemp("tls")
    own, other = Authority(folder, "own"), Authority(folder, "other")
    certificate, key, issued = own.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(own.file)
    context.verify_mode = ssl.CERT_OPTIONAL
    upstream, shown = make_url(server_url), list[str]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.closing(writer),
            contextlib.suppress(OSError, asyncio.IncompleteReadError),
        ):
            assert (await reader.readexactly(8))[4:] == SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(context)
            names = (writer.get_extra_info("peercert") or {}).get("subject", ())
            shown.extend(value for part in names for _, value in part)
            there, back = await connect_plainly(upstream)
            await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, "localhost", 0, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield Tls(upstream, port, own, other, issued, shown)


SSL_REQUEST = (80877103).to_bytes(4, "big")


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await source.read(65536):
            sink.write(block)
            await sink.drain()
    sink.close()


async def connect(given: str) -> None:
    """Connect as requests do and as the listener does; by TLS both times."""
    url, settings = normalise_url(given), settings_for(given, database_connect_timeout=30)
    apart = await connect_apart(url, settings, Primary().find, purpose=" changes")
    assert await apart.fetchval("SELECT 1") == 1
    assert apart._transport.get_extra_info("ssl_object")
    await apart.close()
    engine = create_engine(url, settings)
    try:
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
            driver: Any = (await connection.get_raw_connection()).driver_connection
            assert driver._transport.get_extra_info("ssl_object")
    finally:
        await engine.dispose()


async def test_verify_full_takes_the_right_server(tls: Tls) -> None:
    await connect(tls.url(sslmode="verify-full", sslrootcert=tls.own.file))


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
async def test_a_server_of_another_authority_is_refused(tls: Tls, mode: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(tls.url(sslmode=mode, sslrootcert=tls.other.file))
    await connect(tls.url(sslmode=mode, sslrootcert=tls.own.file))


async def test_a_server_of_another_name_is_refused_by_verify_full_alone(tls: Tls) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(tls.url("127.0.0.1", sslmode="verify-full", sslrootcert=tls.own.file))
    for mode in ("verify-ca", "require"):
        given = tls.url("127.0.0.1", sslmode=mode, sslrootcert=tls.own.file)
        await connect(given)


async def test_of_several_hosts_each_is_verified(tls: Tls) -> None:
    nowhere = f"localhost:{free_port()}"
    right = tls.url(f"{nowhere},localhost", sslmode="verify-full", sslrootcert=tls.own.file)
    await connect(right)
    wrong = tls.url(f"{nowhere},127.0.0.1", sslmode="verify-full", sslrootcert=tls.own.file)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(wrong)


async def test_a_client_certificate_is_shown(tls: Tls) -> None:
    certificate, key, _ = tls.own.issue("certified")
    options: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": tls.own.file}
    tls.shown.clear()
    await connect(tls.url(**options))
    assert tls.shown == []
    await connect(tls.url(sslcert=certificate, sslkey=key, **options))
    assert tls.shown == ["certified"] * 2


async def test_a_revoked_server_is_refused(tls: Tls) -> None:
    options: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": tls.own.file}
    await connect(tls.url(sslcrl=tls.own.revoke(), **options))
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        await connect(tls.url(sslcrl=tls.own.revoke(tls.certificate), **options))


async def test_a_tls_version_that_is_demanded_is_used(tls: Tls) -> None:
    for version in ("TLSv1.2", "TLSv1.3"):
        given = tls.url(sslmode="require", ssl_max_protocol_version=version)
        settings = settings_for(given, database_connect_timeout=30)
        apart = await connect_apart(
            normalise_url(given), settings, Primary().find, purpose=" changes"
        )
        assert apart._transport.get_extra_info("ssl_object").version() == version
        await apart.close()
