"""The queue before the hashing threads: nobody's calls keep the others from being served."""

from collections import Counter

import pytest

from app.db.work import Actor, Origin
from app.identity.hash_queue import (
    LEAST_PLACES,
    Source,
    source_of,
)
from tests.support.queues import PLACES, SHARE, Crowd, bob, length, numbered


@pytest.mark.parametrize("networks", [1, 50])
async def test_one_account_signing_in_holds_its_share_and_the_others_get_in(networks: int) -> None:
    crowd = Crowd()
    await crowd.come(bob(number % networks) for number in range(80))
    assert length(crowd.queue) == SHARE
    assert crowd.queue.refused == len(crowd.refused) == 80 - SHARE
    honest = numbered(20)
    await crowd.come(honest)
    await crowd.come(bob(number % networks) for number in range(80))
    assert set(crowd.refused) & set(honest) == set()
    await crowd.serve(len(honest) + SHARE)
    assert set(honest) <= set(crowd.served)
    assert Counter(source.account for source in crowd.served)["bob"] == SHARE
    await crowd.serve_all()


@pytest.mark.parametrize(
    ("attackers", "soon"),
    [
        ([Source("logins", "127.0.0.1", f"nobody-{n}") for n in range(200)], 2),
        ([Source("logins", f"127.0.0.{n % 50}", f"nobody-{n}") for n in range(200)], 51),
        ([Source("logins", f"127.0.0.{n % 50}", f"nobody-{n % 7}") for n in range(200)], 51),
        ([Source("logins", f"2001:db8:0:{n % 3}::/64", f"nobody-{n}") for n in range(200)], 4),
    ],
    ids=["one address", "fifty addresses", "fifty addresses, few names", "three networks"],
)
async def test_names_without_end_keep_no_login_from_elsewhere_out(
    attackers: list[Source], soon: int
) -> None:
    crowd = Crowd()
    await crowd.come(attackers)
    alice = Source("logins", "198.51.100.7", "alice")
    await crowd.come([alice, *attackers])
    await crowd.serve(soon)
    assert alice in crowd.served, "each network is served once before"
    await crowd.serve_all()
    assert alice not in crowd.refused


async def test_behind_one_address_accounts_are_served_in_turn() -> None:
    """All requests come from the proxy, if it is not named in the settings."""
    crowd = Crowd()
    await crowd.come([Source("logins", "192.0.2.1", f"user-{n % 8}") for n in range(200)])
    assert length(crowd.queue) == PLACES
    alice = Source("logins", "192.0.2.1", "alice")
    await crowd.come([alice])
    await crowd.serve(9)
    assert crowd.served[-1] == alice
    await crowd.serve_all()


async def test_a_full_queue_takes_the_place_of_the_network_with_the_most() -> None:
    crowd = Crowd()
    few = numbered(30)
    many = [Source("logins", "127.0.0.1", f"user-{n % 7}") for n in range(50)]
    await crowd.come([*few, *many])
    assert length(crowd.queue) == PLACES
    more = numbered(10, "198.51.100.{}")
    await crowd.come(more)
    assert {source.network for source in crowd.refused} == {"127.0.0.1"}
    await crowd.serve_all()
    assert set(crowd.served) >= {*few, *more}


async def test_the_newest_call_is_refused_and_not_one_that_has_waited() -> None:
    crowd = Crowd()
    waiting = numbered(PLACES)
    await crowd.come(waiting)
    await crowd.come([Source("logins", "198.51.100.1", "one"), *waiting[:5]])
    assert crowd.refused[0].account == "one"
    assert len(crowd.refused) == 6
    await crowd.serve_all()
    assert crowd.served == waiting


async def test_an_account_guessed_at_from_one_address_keeps_a_place_for_its_owner() -> None:
    crowd = Crowd()
    await crowd.come(bob(1) for _ in range(20))
    assert length(crowd.queue) == SHARE
    await crowd.come([bob(2)])
    assert set(crowd.refused) == {bob(1)}
    await crowd.serve(2)
    assert bob(2) in crowd.served
    await crowd.serve_all()


@pytest.mark.parametrize("storm", ["logins", "accounts"])
async def test_a_full_lane_keeps_nothing_from_the_other(storm: str) -> None:
    crowd = Crowd()
    logins = numbered(200)
    work = [Source("accounts", source.network, source.account) for source in logins]
    full, other = (logins, work) if storm == "logins" else (work, logins)
    await crowd.come(full)
    await crowd.come(other[:10])
    assert set(crowd.refused).isdisjoint(other)
    await crowd.serve(20)
    served = Counter(source.lane for source in crowd.served)
    assert served == {"logins": 10, "accounts": 10}
    await crowd.serve_all()


async def test_one_who_changes_passwords_without_end_keeps_no_administrator_out() -> None:
    crowd = Crowd()
    thief = Source("accounts", "127.0.0.1", "thief")
    await crowd.come([thief] * 80)
    admin = Source("accounts", "192.0.2.1", "admin")
    await crowd.come([admin, Source()])
    await crowd.serve(3)
    assert {admin, Source()} <= set(crowd.served)
    await crowd.serve_all()
    assert set(crowd.refused) == {thief}


@pytest.mark.parametrize(("places", "share"), [(1, 1), (2, 2), (8, 4), (64, 8), (800, 100)])
async def test_the_share_grows_with_the_queue(places: int, share: int) -> None:
    assert LEAST_PLACES == 4
    crowd = Crowd(places)
    await crowd.come([bob()] * 2 * places)
    assert length(crowd.queue) == min(places, share)
    await crowd.serve_all()


async def test_addresses_of_one_64_are_one_source() -> None:
    one, other, third = (
        source_of(Actor(origin=Origin(address=f"2001:db8:0:{address}")))
        for address in ("1::1", "1:ffff::2", "2::1")
    )
    assert one == other != third
