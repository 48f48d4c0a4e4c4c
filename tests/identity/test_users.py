"""Users: names, and that one name is one user, whatever the spelling and the race."""

import asyncio
import uuid
from itertools import permutations

import homoglyph
import pytest
from sqlalchemy import text

from app.errors import Refused
from app.identity.account_writes import add_user, add_users, rename_user
from app.identity.models import User
from app.identity.names import (
    MAX_USERNAME,
    normalise_username,
    username_key,
    username_skeleton,
)
from app.identity.users import (
    NewUser,
    UsernameTaken,
    UserNotFound,
    fill_in_all_skeletons,
    find_user,
    get_user,
    list_users,
)
from app.runtime import Runtime
from tests.support.databases import wait_for_lock
from tests.support.factories import OPERATOR, make_user
from tests.support.processes import PATIENCE


@pytest.mark.parametrize(
    "name", ["", "x" * 255, "  ", "two words", "tab\t", "nul\0", "\ud800", "\u202e"]
)
def test_unfit_names_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        normalise_username(name)


# The ends of the ranges that Unicode lists as Default_Ignorable_Code_Point, and five more.
INVISIBLE = [
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180F, 0x200B, 0x200F),
    *(0x202A, 0x202E, 0x2060, 0x206F, 0x3164, 0xFE00, 0xFE0F, 0xFEFF, 0xFFA0, 0xFFF0, 0xFFF8),
    *(0x2800, 0xFFFC, 0x1107F, 0x16FE4, 0x1D159),
    *(0x1BCA0, 0x1BCA3, 0x1D173, 0x1D17A, 0xE0000, 0xE0100, 0xE0FFF),
]


@pytest.mark.parametrize("code_point", INVISIBLE, ids=hex)
def test_names_with_something_invisible_in_them_are_refused(code_point: int) -> None:
    invisible = chr(code_point)
    for name in (f"admin{invisible}", f"ad{invisible}min", invisible):
        with pytest.raises(Refused):
            normalise_username(name)


@pytest.mark.parametrize(
    "name", ["Ægir", "名前", "이름", "नाम", "🐎", "a\u0301b", "o'neil+x@example.org"]
)
def test_names_of_all_scripts_are_names(name: str) -> None:
    assert normalise_username(name)


async def test_a_name_is_taken_in_every_spelling(runtime: Runtime) -> None:
    user = await make_user(runtime, username="Straße@Example.org")
    async with runtime.work(OPERATOR) as work:
        for spelling in ("STRASSE@EXAMPLE.ORG", "straße@example.org"):
            with pytest.raises(UsernameTaken):
                await add_user(work, NewUser(spelling, "person", None))
            assert (await get_user(work.db, spelling)).id == user.id
        with pytest.raises(UserNotFound):
            await get_user(work.db, "somebody")
        assert await find_user(work.db, "nul\0") is None
        assert [each.id for each in await list_users(work.db)] == [user.id]


async def test_of_two_who_take_a_name_at_once_one_gets_it(own_runtime: Runtime) -> None:
    async def take(name: str) -> bool:
        try:
            await make_user(own_runtime, username=name)
        except UsernameTaken:
            return False
        return True

    for round_ in range(5):
        names = [f"Name{round_}", f"name{round_}", f"NAME{round_}", f"nAme{round_}"]
        assert sum(await asyncio.gather(*map(take, names))) == 1


def test_what_is_nobodys_name_for_its_length_is_not_normalised() -> None:
    """It would take seconds, by the square of the length, and stop everything else."""
    endless = "a" + "\u0315\u0300" * 10_000
    assert username_key(endless) == endless
    with pytest.raises(Refused):
        normalise_username(endless)
    assert normalise_username("\u03b1\u0313\u0300\u0345" * 254) == "\u1f82" * 254


def test_spaces_around_a_name_are_trimmed() -> None:
    for spelling in ("  alice ", "\u3000alice\u00a0", " alice"):
        assert normalise_username(spelling) == "alice"
        assert username_key(spelling) == username_key("alice")


def test_a_name_has_up_to_254_characters_and_fits_the_index_whatever_they_are() -> None:
    assert MAX_USERNAME == 254
    assert len(normalise_username("x" * 254)) == 254
    # A B-tree's entry has at most 2704 bytes; of all characters this one has the longest key.
    assert len(username_key("\u1ff7" * 254).encode()) < 2704
    assert len(username_skeleton("\u1ff7" * 254)) == 32


async def test_the_longest_names_can_be_added_and_found(runtime: Runtime) -> None:
    for name in ("x" * 254, "\u1ff7" * 254, "\U0001f40e" * 254):
        user = await make_user(runtime, username=name)
        async with runtime.sessions() as db:
            assert (await get_user(db, f" {name} ")).id == user.id


LOOKALIKES = [
    ("admin", "adm\u0131n"),
    ("admin", "\u0430dmin"),
    ("admin", "\u0430DMIN"),
    ("ADMIN", "\u0391dmin"),
    ("admin", "ADM\u0399N"),
    ("henry", "\u0397enry"),
    ("paypal", "\u0440\u0430\u0443\u0440\u0430l"),
    ("mary", "rn\u0430ry"),
    ("zo\u00eb", "z\u043e\u00eb"),
    ("\u0440\u0430\u0443\u0430", "p\u0430ya"),
]


@pytest.mark.parametrize(("one", "other"), LOOKALIKES)
async def test_a_name_that_looks_like_another_is_refused(
    runtime: Runtime, one: str, other: str
) -> None:
    for taken, asked in permutations((one, other)):
        suffix = uuid.uuid4().hex
        await make_user(runtime, username=taken + suffix)
        with pytest.raises(UsernameTaken):
            await make_user(runtime, username=asked + suffix)
        renamed = await make_user(runtime)
        async with runtime.work(OPERATOR) as work:
            # A login by it finds no user.
            assert await find_user(work.db, asked + suffix) is None
            row = await work.db.get_one(User, renamed.id)
            with pytest.raises(UsernameTaken):
                await rename_user(work, row, username=asked + suffix)


async def test_plain_ascii_names_never_collide_by_their_looks(runtime: Runtime) -> None:
    names = ["mary", "rnary", "bill", "bi11", "biII.", "bob0", "bobo", "a|b", "alb", "aib", "a1b"]
    for name in names:
        await make_user(runtime, username=name)
    users = [NewUser(name, "person", None) for name in ("clovv", "clow", "vv", "w", "li1", "1il")]
    async with runtime.work(OPERATOR) as work:
        assert len(await add_users(work, users)) == len(users)
        found = await get_user(work.db, "clow")
        await rename_user(work, found, username="c1ow")


async def test_names_with_accents_are_no_lookalikes_of_those_without(runtime: Runtime) -> None:
    for name in (
        "jurgen",
        "j\u00fcrgen",
        "elie",
        "\u00e9lie",
        "sofia",
        "\u03c3\u03bf\u03c6\u03af\u03b1",
    ):
        await make_user(runtime, username=name)


async def test_a_name_is_no_lookalike_of_itself(runtime: Runtime) -> None:
    user = await make_user(runtime, username="\u00c9lodie")
    async with runtime.work(OPERATOR) as work:
        own = await work.db.get_one(User, user.id)
        await rename_user(work, own, username="\u00e9LODIE")
        assert (await get_user(work.db, "\u00e9lodie")).username == "\u00e9LODIE"


async def test_of_lookalikes_that_are_added_at_once_one_gets_the_name(own_runtime: Runtime) -> None:
    async def take(name: str) -> bool:
        try:
            await make_user(own_runtime, username=name)
        except UsernameTaken:
            return False
        return True

    for round_ in range(5):
        names = [f"{spelling}{round_}" for spelling in ("admin", "\u0430dmin", "adm\u0131n")]
        # Two spellings in ASCII alone may both be there, but never with a third.
        assert sum(await asyncio.gather(*map(take, names))) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [("admin", "\u0430dmin"), ("\u0430dmin", "admin"), ("\u0430dmin", "adm\u0131n")],
)
async def test_a_name_waits_for_a_lookalike_that_is_being_added(
    own_runtime: Runtime, first: str, second: str
) -> None:
    async def add(name: str) -> None:
        async with own_runtime.work(OPERATOR) as work:
            await add_user(work, NewUser(name, "person", None))

    async with own_runtime.work(OPERATOR) as work:
        await add_user(work, NewUser(first, "person", None))
        waiting = asyncio.create_task(add(second))
        await wait_for_lock(own_runtime)
    with pytest.raises(UsernameTaken):
        await waiting


async def test_plain_names_are_added_side_by_side(own_runtime: Runtime) -> None:
    async with own_runtime.work(OPERATOR) as work:
        await add_user(work, NewUser("mary", "person", None))
        await asyncio.wait_for(make_user(own_runtime, username="rnary"), PATIENCE)


INSERT_AS_BEFORE = text(
    "INSERT INTO users (id, username, username_key) VALUES (gen_random_uuid(), :name, :key)"
)


async def test_names_that_the_release_before_gives_are_compared_too(own_runtime: Runtime) -> None:
    runtime = own_runtime
    async with runtime.work(OPERATOR) as work:
        for name in ("operator", "r\u043e\u043et", "plain"):
            await work.db.execute(INSERT_AS_BEFORE, {"name": name, "key": name})
    for lookalike in ("\u043eperator", "root"):
        with pytest.raises(UsernameTaken):
            await make_user(runtime, username=lookalike)
    await fill_in_all_skeletons(runtime.sessions)
    renames = "UPDATE users SET username = :to, username_key = :to WHERE username = 'plain'"
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(text(renames), {"to": "manager"})
    with pytest.raises(UsernameTaken):
        await make_user(runtime, username="m\u0430nager")
    await make_user(runtime, username="pl\u0430in")


async def test_users_who_look_alike_already_keep_their_names(own_runtime: Runtime) -> None:
    async with own_runtime.work(OPERATOR) as work:
        # The last could not be given today: it begins with a combining mark.
        for name in ("admin", "\u0430dmin", "\u0301a", "x" * 100):
            await work.db.execute(INSERT_AS_BEFORE, {"name": name, "key": name})
    await fill_in_all_skeletons(own_runtime.sessions)
    async with own_runtime.sessions() as db:
        for name in ("admin", "\u0430dmin", "\u0301a", "x" * 100):
            assert (await get_user(db, name)).username == name
        missing = "SELECT count(*) FROM users WHERE username_skeleton IS NULL"
        assert await db.scalar(text(missing)) == 0
    with pytest.raises(UsernameTaken):
        await make_user(own_runtime, username="\u0430dm\u0456n")


@pytest.mark.parametrize(
    "name",
    [
        "\u0301admin",
        "a.\u0338b",
        "adm\u0069\u0307n",
        "l\u0307",
        "a\u20ddb",
        "a" + "\u0316" * 2,
        "a\u0316\u0317\u0318\u0319\u031c",
        "Z\u0351\u036b\u0343\u036a\u0302",
    ],
)
def test_combining_marks_that_no_identifier_has_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        normalise_username(name)


@pytest.mark.parametrize(
    "name",
    [
        "e\u0301",
        "Nguy\u1ec5n",
        "\u0130stanbul",
        "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
        "\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651",
        "\u0928\u092e\u0938\u094d\u0924\u0947",
        "\u0f56\u0f66\u0f92\u0fb2\u0f74\u0f56\u0f66",
        "\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48",
        "\u1f82",
    ],
)
def test_combining_marks_of_all_languages_are_allowed(name: str) -> None:
    assert normalise_username(name)


def test_skeletons_are_those_of_the_unicode_version_they_were_made_with() -> None:
    """A new version needs a migration that empties users.username_skeleton."""
    assert homoglyph.unicode_version == "17.0.0"
    digest = "5bcd5395409685b3d6a1ef097dc19f0987b3cebaae044ba06c231d9dfd91de7d"
    for name in ("admin", "ADMIN", "\u0430dm\u0131n"):
        assert username_skeleton(name).hex() == digest
