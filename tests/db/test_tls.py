"""TLS to a real Postgres, by the options of a database URL: what they demand is made true."""

import datetime
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from app.db.embedded_server import NAME, programs_within_reach, server_user
from app.db.engine import connect_apart, create_engine, normalise_url
from app.db.primary import Primary
from tests.cluster import Node
from tests.conftest import settings_for
from tests.processes import free_port

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
    """A server that is `localhost` by its certificate, and who signs for it and who does not."""

    port: int
    own: Authority
    other: Authority
    certificate: x509.Certificate

    def url(self, host: str = "localhost", user: str = NAME, **options: object) -> str:
        query = urlencode({name: str(value) for name, value in options.items()})
        return f"postgresql://{user}@{host}:{self.port}/postgres?{query}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
async def tls(folder: Path) -> AsyncIterator[Tls]:
    own, other = Authority(folder, "own"), Authority(folder, "other")
    certificate, key, issued = own.issue("localhost")
    with programs_within_reach(folder) as programs:
        node = Node(folder / "data", programs)
        node.run("initdb", "--auth=trust", f"--username={NAME}", "--no-sync", "--no-instructions")
        for source, name in ((certificate, "s.crt"), (key, "s.key"), (own.file, "ca.crt")):
            target = node.data / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            os.chown(target, server_user(), -1)
        with (node.data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                "ssl = on\nssl_cert_file = 's.crt'\nssl_key_file = 's.key'\nssl_ca_file = 'ca.crt'\n"
            )
        (node.data / "pg_hba.conf").write_text(
            f"hostssl all {NAME} all trust\nhostssl all certified all cert\n"
        )
        try:
            await node.start()
            await node.execute("CREATE ROLE certified LOGIN SUPERUSER")
            yield Tls(node.port, own, other, issued)
        finally:
            node.kill()


async def connect(given: str) -> str:
    """Connect as requests do and as the listener does; return the role they have, by TLS."""
    url, settings = normalise_url(given), settings_for(given, database_connect_timeout=30)
    asked = (
        "SELECT CASE WHEN ssl THEN current_user END FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    apart = await connect_apart(url, settings, Primary())
    role = str(await apart.fetchval(asked))
    await apart.close()
    engine = create_engine(url, settings)
    try:
        async with engine.connect() as connection:
            assert await connection.scalar(text(asked)) == role
    finally:
        await engine.dispose()
    return role


async def test_verify_full_takes_the_right_server(tls: Tls) -> None:
    assert await connect(tls.url(sslmode="verify-full", sslrootcert=tls.own.file)) == NAME


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
async def test_a_server_of_another_authority_is_refused(tls: Tls, mode: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(tls.url(sslmode=mode, sslrootcert=tls.other.file))
    assert await connect(tls.url(sslmode=mode, sslrootcert=tls.own.file)) == NAME


async def test_a_server_of_another_name_is_refused_by_verify_full_alone(tls: Tls) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(tls.url("127.0.0.1", sslmode="verify-full", sslrootcert=tls.own.file))
    for mode in ("verify-ca", "require"):
        given = tls.url("127.0.0.1", sslmode=mode, sslrootcert=tls.own.file)
        assert await connect(given) == NAME


async def test_of_several_hosts_each_is_verified(tls: Tls) -> None:
    nowhere = f"localhost:{free_port()}"
    right = tls.url(f"{nowhere},localhost", sslmode="verify-full", sslrootcert=tls.own.file)
    assert await connect(right) == NAME
    wrong = tls.url(f"{nowhere},127.0.0.1", sslmode="verify-full", sslrootcert=tls.own.file)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(wrong)


async def test_a_client_certificate_is_shown(tls: Tls) -> None:
    certificate, key, _ = tls.own.issue("certified")
    options = {"sslmode": "verify-full", "sslrootcert": tls.own.file}
    with pytest.raises(Exception, match="certificate"):
        await connect(tls.url(user="certified", **options))
    shown = tls.url(user="certified", sslcert=certificate, sslkey=key, **options)
    assert await connect(shown) == "certified"


async def test_a_revoked_server_is_refused(tls: Tls) -> None:
    options = {"sslmode": "verify-full", "sslrootcert": tls.own.file}
    assert await connect(tls.url(sslcrl=tls.own.revoke(), **options)) == NAME
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        await connect(tls.url(sslcrl=tls.own.revoke(tls.certificate), **options))


async def test_a_tls_version_that_is_demanded_is_used(tls: Tls) -> None:
    options = {"sslmode": "verify-full", "sslrootcert": tls.own.file}
    given = tls.url(ssl_min_protocol_version="TLSv1.3", **options)
    settings = settings_for(given, database_connect_timeout=30)
    apart = await connect_apart(normalise_url(given), settings, Primary())
    asked = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert await apart.fetchval(asked) == "TLSv1.3"
    await apart.close()
