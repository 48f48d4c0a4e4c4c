"""Users: names, and that one name is one user, whatever the spelling and the race."""

import asyncio

import pytest

from app.access.authority import OPERATOR
from app.errors import Refused
from app.identity.users import (
    UsernameTaken,
    UserNotFound,
    add_user,
    find_user,
    get_user,
    list_users,
    normalise_username,
    username_key,
)
from app.runtime import Runtime
from tests.factories import make_user


@pytest.mark.parametrize("name", ["", "x" * 129, "two words", "tab\t", "nul\0", "\ud800", "\u202e"])
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
    async with runtime.unit_of_work() as session:
        for spelling in ("STRASSE@EXAMPLE.ORG", "straße@example.org"):
            with pytest.raises(UsernameTaken):
                await add_user(
                    session, username=spelling, kind="person", password_hash=None, by=OPERATOR
                )
            assert (await get_user(session, spelling)).id == user.id
        with pytest.raises(UserNotFound):
            await get_user(session, "somebody")
        assert await find_user(session, "nul\0") is None
        assert [each.id for each in await list_users(session)] == [user.id]


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
    assert normalise_username("\u03b1\u0313\u0300\u0345" * 128) == "\u1f82" * 128
