"""Hashes of other systems: which verify, which are refused and why, and what they may cost."""

import base64
import hmac

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from passlib.hash import bcrypt, phpass

from app.errors import Refused
from app.identity.foreign_hashes import check_hash
from app.identity.hash_kinds import known_hash
from app.identity.passwords import PasswordHasher
from tests.support.factories import PASSWORD
from tests.support.foreign_hashes import FIREBASE, HASHES, SSHA
from tests.support.hashing import QUICK

EVERY_HASH = pytest.mark.parametrize(("text", "password"), HASHES.values(), ids=HASHES)
BY_BCRYPT = "$2b$04$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
BY_ARGON2 = (
    "$argon2id$v=19$m=16,t=2,p=2$c2FsdCBvZiBhbm5h$LLONhTivlap8zru4GnpJwf6h79yxzdzZVJBijViAsvw"
)
KEY = "A" * 43
SHA512_DIGEST = "/" * 86


@pytest.fixture
def hasher() -> PasswordHasher:
    return PasswordHasher(threads=2, queue=3, cost=QUICK)


@EVERY_HASH
async def test_hashes_of_other_systems_verify_and_are_upgraded(
    hasher: PasswordHasher, text: str, password: str
) -> None:
    stored = check_hash(text)
    assert check_hash(stored) == stored
    for wrong in (f"wrong {password}", f"{password}x", "x"):
        assert await hasher.verify(wrong, stored) == (False, None)
    correct, renewed = await hasher.verify(password, stored)
    assert correct
    assert renewed
    assert renewed.startswith(QUICK.start)
    assert await hasher.verify(password, renewed) == (True, None)


@EVERY_HASH
async def test_a_wrong_password_costs_no_less_than_for_an_unknown_name(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch, text: str, password: str
) -> None:
    """Most of these hashes are cheap: without more work the answer would show who has one."""
    calls: list[str] = []
    verify = hasher._context.verify

    def noted(secret: str, password_hash: str) -> bool:
        calls.append(password_hash)
        return verify(secret, password_hash)

    monkeypatch.setattr(hasher._context, "verify", noted)
    for wrong, expected in ((f"wrong {password}", 1), (f"wrong \u00b2 {password}", 2)):
        for stored in (check_hash(text), None):
            calls.clear()
            assert await hasher.verify(wrong, stored) == (False, None)
            assert len(calls) == expected


async def test_wordpress_passwords_verify_as_its_forms_leave_them(hasher: PasswordHasher) -> None:
    """It removes spaces around a password, and hashes it with backslashes before its quotes."""
    for kind, start in (("phpass", ""), ("wordpress", "$wp")):
        for hashed in (r"it\'s \"mine\"", 'it\'s "mine"'):
            text = start + wordpress_hash(kind, hashed)
            for typed in ('it\'s "mine"', ' it\'s "mine"\n'):
                assert (await hasher.verify(typed, check_hash(text)))[0]
            assert not (await hasher.verify("its mine", check_hash(text)))[0]


def wordpress_hash(kind: str, password: str) -> str:
    """What WordPress stores for this, by its older or its present hash."""
    if kind == "phpass":
        return str(phpass.using(rounds=8).hash(password))  # type: ignore[no-untyped-call]
    digest = hmac.digest(b"wp-sha384", password.encode(), "sha384")
    return bcrypt.using(rounds=4, ident="2y").hash(base64.b64encode(digest))


def argon2_of(memory: int, passes: int, lanes: int) -> str:
    return BY_ARGON2.replace("m=16,t=2,p=2", f"m={memory},t={passes},p={lanes}")


@pytest.mark.parametrize(
    "password_hash",
    [
        BY_BCRYPT,
        *(BY_BCRYPT.replace("$2b$04$", start) for start in ("$2a$13$", "$2y$15$")),
        BY_ARGON2,
        *(BY_ARGON2.replace("argon2id$v=19", start) for start in ("argon2d", "argon2i$v=16")),
        argon2_of(262_144, 16, 16),
        argon2_of(128, 32, 16),
        f"$pbkdf2-sha256$4194304$c2FsdA${KEY}",
        f"$scrypt$ln=17,r=8,p=4$c2FsdA${KEY}",
        f"$6$rounds=698368$salt${SHA512_DIGEST}",
        f"$wp{BY_BCRYPT.replace('$04$', '$14$')}",
        "$P$G55D6LjfHDkINU5wF.v2BuuzO0/XPk/",
    ],
)
def test_hashes_from_elsewhere_are_taken_as_they_are(password_hash: str) -> None:
    assert check_hash(password_hash) == password_hash


@pytest.mark.parametrize(
    ("password_hash", "why"),
    [
        *(
            (BY_BCRYPT.replace("$04$", f"${rounds}$"), "is too expensive")
            for rounds in (16, 20, 31)
        ),
        *(
            (f"$wp{BY_BCRYPT.replace('$04$', f'${n}$')}", "WordPress is too expensive")
            for n in (15, 31)
        ),
        (argon2_of(262_145, 1, 1), "is too expensive"),
        (argon2_of(262_144, 17, 1), "is too expensive"),
        (argon2_of(16, 33, 1), "is too expensive"),
        (argon2_of(136, 1, 17), "is too expensive"),
        (argon2_of(134_217_720, 1, 16_777_215), "is too expensive"),
        (f"$pbkdf2-sha256$4194305$c2FsdA${KEY}", "PBKDF2-SHA256 is too expensive"),
        (f"pbkdf2_sha256$9999999999$salt${KEY}=", "is too expensive"),
        (f"pbkdf2:sha256:4194305$salt${'0' * 64}", "is too expensive"),
        (f"$scrypt$ln=18,r=16,p=1$c2FsdA${KEY}", "scrypt is too expensive"),
        (f"$scrypt$ln=14,r=8,p=33$c2FsdA${KEY}", "scrypt is too expensive"),
        (f"$scrypt$ln=2,r=999999999,p=1$c2FsdA${KEY}", "scrypt is too expensive"),
        (f"scrypt:1073741824:8:1$salt${'0' * 128}", "scrypt is too expensive"),
        (FIREBASE.replace("n=14", "n=99"), "Firebase is too expensive"),
        (FIREBASE.replace("p=1", "p=999"), "Firebase is too expensive"),
        (f"$6$rounds=698369$salt${SHA512_DIGEST}", "sha512-crypt is too expensive"),
        (f"$5$rounds=999999999$salt${'/' * 43}", "sha256-crypt is too expensive"),
        ("$P$H55D6LjfHDkINU5wF.v2BuuzO0/XPk/", "phpass is too expensive"),
    ],
)
def test_hashes_that_cost_too_much_are_refused(password_hash: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        check_hash(password_hash)


@pytest.mark.parametrize(
    ("password_hash", "why"),
    [
        (argon2_of(15, 2, 2), "argon2 is broken"),
        (argon2_of(0, 2, 2), "argon2 is broken"),
        (argon2_of(16, 0, 2), "argon2 is broken"),
        (argon2_of(16, 2, 0), "argon2 is broken"),
        (BY_ARGON2.replace("p=2", "p=2,keyid=AAAA,data=AAAA"), "argon2 is broken"),
        (BY_ARGON2.replace("v=19", "v=20"), "argon2 is broken"),
        (BY_ARGON2.replace("c2FsdCBvZiBhbm5h", "c2FsdCBvZg"), "argon2 is broken"),
        (BY_ARGON2[: BY_ARGON2.rindex("$")] + "$LLONhTivlap8zru4Gnpg", "argon2 is broken"),
        *((each + "\0", "is broken") for each in (BY_BCRYPT, BY_ARGON2)),
        *((each + "\n", "is broken") for each in (BY_BCRYPT, BY_ARGON2)),
        *((each[:-1], "is broken") for each in (BY_BCRYPT, BY_ARGON2)),
        (BY_BCRYPT.replace("$04$", "$03$"), "bcrypt is broken"),
        # Bits that no salt and no digest has.
        (BY_BCRYPT.replace("kh2O", "kh2P"), "bcrypt is broken"),
        (BY_BCRYPT[:-1] + "X", "bcrypt is broken"),
        (BY_ARGON2[:-1] + "x", "argon2 is broken"),
        (argon2_of(16, 2, 2).replace("m=16", "m=016"), "argon2 is broken"),
        ("$5$rounds=1000$salt$sha", "sha256-crypt is broken"),
        (f"$6$rounds=5000$usesomesillystri${SHA512_DIGEST[:64]}", "sha512-crypt is broken"),
        (FIREBASE[:-4], "Firebase is broken"),
        (FIREBASE.replace("sk=jxspr8Ki0RYyc", "sk=jxsp"), "Firebase is broken"),
        (f"{{SSHA}}{SSHA[:24]}", "LDAP's {SSHA} is broken"),
        ("pbkdf2_sha256$1000$salt$c2hvcnQ=", "Django's PBKDF2 is broken"),
        ("pbkdf2:sha256:1000$salt$xyz", "Werkzeug's PBKDF2 is broken"),
        (f"scrypt:1000:8:1$salt${'0' * 128}", "Werkzeug's scrypt is broken"),
        ("scrypt$16$salt$8$1$c2hvcnQ=", "Django's scrypt is broken"),
        (f"$scrypt$ln=16,r=1,p=1$c2FsdA${KEY}", "scrypt is broken"),
    ],
)
def test_broken_hashes_are_refused_by_their_kind(password_hash: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        check_hash(password_hash)


@pytest.mark.parametrize(
    ("password_hash", "why"),
    [
        (BY_BCRYPT.replace("$2b$", "$2x$"), "faulty bcrypt"),
        (BY_BCRYPT.replace("$2b$", "$2$"), "first bcrypt"),
        ("$1$salt$qJH7.N4xYta3aEG/dfqo/0", "md5-crypt"),
        ("{CRYPT}$1$salt$qJH7.N4xYta3aEG/dfqo/0", "md5-crypt"),
        ("$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o", "yescrypt"),
        ("{CRYPT}rqXexS6ZhobKA", "DES crypt"),
        ("$S$DxVn7wubSRzoK9X2pkGx4njeDRkLEgdqPphc2ZXkkb8Viy8JEGf3", "Drupal 7"),
        ("U$S$DxVn7wubSRzoK9X2pkGx4njeDRkLEgdqPphc2ZXkkb8Viy8JEGf3", "Drupal 7"),
        (f"AQAAAAIAAYagAAAAEA{'A' * 66}", "ASP.NET Identity"),
        ("1e8c4a6b1e18dbedb98800a9369db714", "unsalted"),
        ("5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8", "unsalted"),
        ("a" * 64, "unsalted"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "LDAP's {SHA}"),
        ("{smd5}3RQVrSDaQa5gFhVKJkdXoAAAAAA=", "LDAP's {SHA}, {MD5} or {SMD5}"),
        ("sha1$salt$59b3e8d637cf97edbe2384cf59cb7453dfe30789", "old Django or Werkzeug"),
        ("SCRAM-SHA-256$4096:c2FsdA==$a:b", "PostgreSQL"),
        ("md5c1e8a4a1a2a3b4c5d6e7f8091a2b3c4d", "PostgreSQL or MySQL"),
        (f"*{'A1' * 20}", "PostgreSQL or MySQL"),
        ("!", "no password"),
        ("*", "no password"),
        ("!Rj5wE2kL", "no password"),
        ('{"hashIterations": 5, "algorithm": "argon2"}', "Keycloak"),
        ("\udc80", "not a hash of a kind"),
        ("Winter-Garten-22", "not a hash of a kind"),
        ("", "not a hash of a kind"),
    ],
)
def test_other_hashes_are_refused_by_name(password_hash: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        check_hash(password_hash)
    assert len(password_hash) < 3 or password_hash not in str(refused.value)


@st.composite
def mutated_hashes(draw: st.DrawFn) -> str:
    """A hash with a few pieces of it replaced by others."""
    text = draw(st.sampled_from([BY_BCRYPT, BY_ARGON2, *(text for text, _ in HASHES.values())]))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 4))
        piece = st.text("$,=:{}mtpv0123456789aA./+\0\n", max_size=3) | st.text(max_size=2)
        text = text[:start] + draw(piece) + text[end:]
    return text


@settings(max_examples=500, deadline=None)
@given(mutated_hashes())
@example(BY_BCRYPT)
@example(BY_ARGON2)
@example(f"$scrypt$ln=15,r=1,p=1$c2FsdA${KEY}")
def test_whatever_hash_is_not_refused_a_password_can_be_checked_by(password_hash: str) -> None:
    try:
        stored = check_hash(password_hash)
    except Refused:
        return
    known = known_hash(stored)
    assert known
    # What is dear is computed like what is not, and hundreds would take minutes.
    if known.cost.work < 2**16:
        assert not known.fits("not the password")


@pytest.mark.parametrize("stored", [BY_BCRYPT.replace("$04$", "$31$"), argon2_of(2**31, 1, 1)])
async def test_a_stored_hash_that_costs_too_much_is_a_wrong_password(
    hasher: PasswordHasher, stored: str
) -> None:
    """No import stored it; an operator's SQL may have."""
    assert await hasher.verify(PASSWORD, stored) == (False, None)
