"""An import names the scope that is not registered, and nothing that may be a secret."""

import pytest

from tests.cli.test_imports import HASH, import_rows
from tests.support.commands import Environment


@pytest.mark.parametrize(
    ("scopes", "reason"),
    [
        ("read:orders", "There is no scope read:orders: see the list of scopes."),
        ("read:items read:orders", "There is no scope read:orders: see the list of scopes."),
        ("b:c a", "There is no scope a, b:c: see the list of scopes."),
        (
            "https://api.example/orders.read",
            "There is no scope https://api.example/orders.read: see the list of scopes.",
        ),
        # In the wrong column, or no name of a scope.
        (HASH, "There is no such scope: see the list of scopes."),
        ("$argon2id$v=19$m=8", "There is no such scope: see the list of scopes."),
        ("Tr0ub4dor&3", "There is no such scope: see the list of scopes."),
        ("x" * 129, "There is no such scope: see the list of scopes."),
        (f"read:orders {HASH}", "There is no scope read:orders: see the list of scopes."),
    ],
)
async def test_an_import_names_the_unknown_scope_and_no_secret(
    environment: Environment, scopes: str, reason: str
) -> None:
    code, report = await import_rows(
        "username,password_hash,scopes", f"Ben,{HASH},{scopes}", f"Ida,{HASH},read:items"
    )
    assert (code, report["made"]) == (3, 1)
    assert report["refused"] == [{"line": 2, "reason": reason}]
