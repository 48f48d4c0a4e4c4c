"""What bounds a registered client's tokens: its ceiling and the person's consent."""

import uuid

import pytest

from app.access.client_limits import ClientLimit

SCOPES = frozenset({"admin", "read:items", "openid"})


def limited(ceiling: set[str] | None, consented: set[str]) -> frozenset[str]:
    limit = ClientLimit(
        uuid.uuid4(),
        trusted=False,
        ceiling=None if ceiling is None else frozenset(ceiling),
        consented=frozenset(consented),
    )
    return limit.of(SCOPES)


@pytest.mark.parametrize(
    ("ceiling", "consented", "found"),
    [
        ({"admin"}, {"admin"}, {"admin", "read:items"}),
        ({"admin"}, {"admin", "openid"}, {"admin", "read:items", "openid"}),
        ({"admin"}, {"read:items"}, {"read:items"}),
        ({"read:items"}, {"admin"}, {"read:items"}),
        ({"read:items"}, {"read:items", "openid"}, {"read:items", "openid"}),
        (None, {"admin"}, {"read:items"}),
        ({"read:users"}, {"admin", "openid"}, {"openid"}),
        (set(), set(), set()),
    ],
)
def test_admin_reaches_all_that_can_be_granted_in_a_ceiling_and_in_a_consent(
    ceiling: set[str] | None, consented: set[str], found: set[str]
) -> None:
    assert limited(ceiling, consented) == found
