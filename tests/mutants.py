"""`make mutants`: is there a place in access/ or tokens/ that could be wrong and no test would see?

mutmut breaks the code in one place at a time and runs the tests that come by there. A mutant that
they let live shows a test that is missing, code that is needless, or a difference that makes none.
Those of the last kind stand in tests/mutants.md with a reason. Any other that lives is an error,
and so is a reason for one that doesn't.

What was found is kept in mutants/: what was interrupted goes on where it was, and a function that
has changed is tried again; so is a file or a mutant that is named.
"""

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutmut.state import state
from sqlalchemy import DateTime, Uuid, bindparam

from app.access import clients, holders, holdings
from app.identity import candidates
from app.identity.models import User
from app.tokens import refresh_statements, verification
from tests.support.servers import start_server

MUTMUT = str(Path(sys.executable).with_name("mutmut"))
REASONS = Path("tests/mutants.md")
OUTCOME = re.compile(r" *(\S+__mutmut_\d+): (.+)")
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIVES = {"survived", "no tests", "suspicious"}

JUDGES = {
    "app.access.accounts": (
        "access/test_authority",
        "access/test_last_admin",
        "access/test_requests_under_way",
        "api/test_administering",
        "api/test_invitations",
        "api/test_users",
        "cli/test_imports",
        "cli/test_sessions",
    ),
    "app.access.authority": (
        "access/test_authority",
        "access/test_erasure",
        "access/test_grants",
        "access/test_last_admin",
        "access/test_requests_under_way",
        "api/test_clients",
        "api/test_grants",
        "api/test_invitations",
    ),
    "app.access.client_documents": (
        "access/test_documented_clients",
        "pages/test_client_documents",
    ),
    "app.access.client_limits": (
        "access/test_client_limits",
        "pages/test_code_flow",
        "pages/test_consent",
    ),
    "app.access.client_registry": ("api/test_clients", "pages/test_code_flow"),
    "app.access.clients": (
        "api/test_credentials",
        "api/test_introspection",
        "api/test_refusals",
        "api/test_service_accounts",
        "identity/test_throttle_at_once",
    ),
    "app.access.consents": (
        "access/test_consents",
        "pages/test_account",
        "pages/test_code_flow",
        "pages/test_consent",
        "pages/test_third_parties",
    ),
    "app.access.documented_clients": (
        "access/test_documented_clients",
        "pages/test_client_documents",
    ),
    "app.access.erasure": ("access/test_erasure", "access/test_erasure_races"),
    "app.access.fetching": ("access/test_fetching", "pages/test_client_documents"),
    "app.access.grants": (
        "access/test_authority",
        "access/test_grants",
        "access/test_last_admin",
        "access/test_requests_under_way",
        "access/test_scopes",
        "api/test_grants",
        "cli/test_imports",
    ),
    "app.access.holders": (
        "access/test_principals",
        "access/test_principals_and_changes",
        "api/test_grants",
        "api/test_security",
        "tokens/test_ends",
    ),
    "app.access.holdings": (
        "access/test_holdings",
        "api/test_grants",
        "api/test_refresh",
        "api/test_token_scopes",
        "api/test_user_lists",
        "cli/test_imports",
        "tokens/test_ends",
    ),
    "app.access.letters": (
        "access/test_letters",
        "api/test_email_changes",
        "api/test_password_reset",
        "api/test_planted_addresses",
        "api/test_sign_up",
    ),
    "app.access.own_account": ("api/test_me", "api/test_sessions", "ops/test_personal_data"),
    "app.access.own_address": ("api/test_email_changes", "api/test_sign_up"),
    "app.access.password_links": (
        "api/test_invitations",
        "api/test_password_reset",
        "api/test_planted_addresses",
    ),
    "app.access.personal_tokens": ("api/test_tokens", "tokens/test_personal_tokens"),
    "app.access.principals": (
        "access/test_principals",
        "access/test_principals_and_changes",
        "api/test_grants",
        "api/test_security",
        "pages/test_third_parties",
        "tokens/test_ends",
        "tokens/test_verification",
    ),
    "app.access.redirects": (
        "access/test_redirects",
        "api/test_clients",
        "pages/test_client_documents",
        "pages/test_code_flow",
        "pages/test_logout",
        "pages/test_sign_in",
        "pages/test_third_parties",
    ),
    "app.access.registry": ("access/test_scopes", "api/test_scopes"),
    "app.access.resources": ("access/test_scopes", "api/test_scopes", "pages/test_resources"),
    "app.access.scopes": ("access/test_grants", "access/test_scopes", "api/test_scopes"),
    "app.access.sign_ups": ("api/test_sign_up",),
    "app.tokens.authorization": (
        "pages/test_code_flow",
        "pages/test_openid",
        "pages/test_resources",
        "pages/test_sign_in",
        "tokens/test_authorization",
    ),
    "app.tokens.browser": ("pages/test_sign_in", "tokens/test_browser_sessions"),
    "app.tokens.codes": (
        "pages/test_code_flow",
        "pages/test_code_sessions",
        "pages/test_openid",
        "pages/test_resources",
        "tokens/test_code_races",
    ),
    "app.tokens.id_tokens": ("pages/test_logout", "pages/test_openid", "tokens/test_id_tokens"),
    "app.tokens.introspection": (
        "api/test_introspection",
        "api/test_security",
        "tokens/test_ends",
        "tokens/test_lookup",
    ),
    "app.tokens.issuing": (
        "api/test_refresh",
        "api/test_service_accounts",
        "api/test_sessions",
        "api/test_token",
        "api/test_token_scopes",
        "identity/test_session_rows",
        "pages/test_code_flow",
        "pages/test_resources",
        "tokens/test_ends",
    ),
    "app.tokens.jwt": ("tokens/test_jwt", "tokens/test_verification"),
    "app.tokens.keyring": (
        "api/test_discovery",
        "cli/test_keys",
        "pages/test_openid",
        "tokens/test_ends",
        "tokens/test_keyring",
        "tokens/test_rotation",
    ),
    "app.tokens.keys": ("pages/test_openid", "tokens/test_keyring", "tokens/test_rotation"),
    "app.tokens.last_uses": ("tokens/test_personal_tokens",),
    "app.tokens.lookup": (
        "api/test_introspection",
        "pages/test_resources",
        "tokens/test_ends",
        "tokens/test_lookup",
    ),
    "app.tokens.opaque": (
        "api/test_security",
        "api/test_service_accounts",
        "pages/test_resources",
        "tokens/test_verification",
    ),
    "app.tokens.page_tokens": (
        "pages/test_browser",
        "pages/test_consent",
        "pages/test_sign_in",
        "tokens/test_page_tokens",
    ),
    "app.tokens.personal_tokens": ("api/test_tokens", "tokens/test_personal_tokens"),
    "app.tokens.refresh": (
        "api/test_refresh",
        "pages/test_code_flow",
        "tokens/test_grace",
        "tokens/test_refresh",
    ),
    "app.tokens.refresh_statements": (
        "api/test_refresh",
        "pages/test_code_flow",
        "tokens/test_grace",
        "tokens/test_refresh",
    ),
    "app.tokens.revocation": ("api/test_introspection", "tokens/test_ends", "tokens/test_lookup"),
    "app.tokens.verification": (
        "api/test_security",
        "tokens/test_ends",
        "tokens/test_verification",
    ),
}
"""Whose task it is to see that something is wrong there, where more than a few tests come by."""
FEW = 60

_collected: list[str] = []
_started: set[str] = set()

Change = tuple[str, ...]


def main() -> int:
    """Try the mutants, and hold those that live against the reasons; 1 when these don't agree."""
    arguments = _arguments()
    if not arguments.report:
        server = start_server()
        try:
            environment = {**os.environ, "SCOPEGATE_TEST_DATABASE_URL": server.url}
            names = [_pattern(each) for each in arguments.names]
            children = ["--max-children", str(arguments.children)]
            subprocess.run([MUTMUT, "run", *children, *names], env=environment, check=True)
        finally:
            server.stop()
    return _report()


def _report() -> int:
    outcomes = _outcomes()
    counts = Counter(outcomes.values())
    lives = {_change(_mutmut("show", name)): name for name in outcomes if outcomes[name] in LIVES}
    reasons = {_change(diff) for diff in DIFF.findall(REASONS.read_text())}
    for change in sorted(lives.keys() - reasons):
        print(f"\n{lives[change]} lives:", *change, sep="\n")
    needless = set() if counts["not checked"] else reasons - lives.keys()
    for change in sorted(needless):
        print(f"\n{REASONS} gives a reason for what does not live:", *change, sep="\n")
    print(f"\n{len(outcomes)} mutants:", ", ".join(f"{n} {what}" for what, n in counts.items()))
    print(f"{len(lives.keys() & reasons)} that live are explained, {len(lives)} live")
    return 1 if needless or lives.keys() - reasons else 0


def _outcomes() -> dict[str, str]:
    lines = _mutmut("results", "--all", "true").splitlines()
    return {match[1]: match[2] for match in map(OUTCOME.fullmatch, lines) if match}


def _change(diff: str) -> Change:
    """What a diff takes away and adds: the lines alone, for their numbers move."""
    return tuple(
        f"{line[0]} {line[1:].strip()}"
        for line in diff.splitlines()
        if re.match(r"[-+](?![-+])", line)
    )


def _pattern(name: str) -> str:
    """mutmut's name for all mutants of a file; any other name as it is."""
    return name.removesuffix(".py").replace("/", ".") + ".*" if name.endswith(".py") else name


def _mutmut(*arguments: str) -> str:
    command = [MUTMUT, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="files, or mutants by mutmut's name: only these")
    parser.add_argument(
        "--children",
        type=int,
        # Half of a test's time is Postgres'.
        default=2 * (os.cpu_count() or 1),
        help="how many are tried at once (default: two for each processor)",
    )
    parser.add_argument("--report", action="store_true", help="try nothing: say what is known")
    return parser.parse_args()


# What follows is a plugin of pytest's, for when mutmut runs it.


def pytest_runtest_setup() -> None:
    """What is built once, at import, would never be the mutant's: build it anew."""
    holders._HOLDER = holders.select_holder()
    verification._HOLDER_AND_KEY = verification.select_holder_and_key()
    clients._CANDIDATES = candidates.select_candidates(holdings.granted_to(User.id, clients._NOW))
    refresh_statements.USE_UP = refresh_statements.use_up()
    user_id, now = bindparam("user_id", type_=Uuid()), bindparam("now", type_=DateTime(True))
    holdings._GRANTED = holdings.granted_to(user_id, now)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _collected.extend(item.nodeid for item in items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """What came by before the test itself: the first test to need it starts what many share."""
    _started.update(state()._stats)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell which test stops the run before any mutant: mutmut says only that there is one."""
    if report.failed and os.environ.get("MUTANT_UNDER_TEST") in {None, "", "stats"}:
        print(f"\n{report.nodeid} fails:\n{report.longreprtext}", file=sys.__stderr__)


def pytest_sessionfinish() -> None:
    """Where many tests came by, leave the judges alone: they see it as well as all of them do."""
    came_by = state().tests_by_mangled_function_name
    for function, tests in came_by.items():
        judges = set(_judges(function))
        if function in _started:
            tests |= judges
        if len(tests) > FEW and tests & judges:
            tests &= judges


def _judges(function: str) -> Iterator[str]:
    """The tests of this run whose task it is."""
    files = JUDGES[function.rpartition(".")[0]]
    for test in _collected:
        if test.removeprefix("tests/").partition(".py")[0] in files:
            yield test


if __name__ == "__main__":
    sys.exit(main())
