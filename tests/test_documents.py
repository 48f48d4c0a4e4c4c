"""The documents are true: their commands are run, their tables complete, their references exist.

A shell block is run by one of the tests that are `walking` through its document, or stands in
RUN_ELSEWHERE and says so behind its fence.
"""

import re
import shlex
import sys
import tomllib
from typing import Any

import pytest

from app.settings import PROJECT, Settings
from tests.conftest import SECRET
from tests.generated import (
    API,
    PROMISES_PAGE,
    SETTINGS,
    api_tables,
    generated_part,
    promises_tables,
    settings_table,
)
from tests.support.commands import commands
from tests.support.documents import (
    Document,
    documents,
    files_in,
    linked_documents,
    readme_is_true_of,
)
from tests.support.processes import ROOT, environment, serving

IN_DOCKER = "tests/system/test_docker.py runs it"
OFFLINE = "tests/system/test_wheel.py does the same without an index"
RUN_ELSEWHERE = {
    (
        "README.md",
        "Start it",
    ): "tests/system/test_make_run.py runs the one; the other runs this test",
    ("docs/how-to/back-up-and-restore.md", "Backup"): IN_DOCKER,
    ("docs/how-to/back-up-and-restore.md", "Restore"): IN_DOCKER,
    ("docs/how-to/install-with-pip.md", "Build the wheel"): OFFLINE,
    ("docs/how-to/install-with-pip.md", "Install it"): OFFLINE,
    ("docs/how-to/install-with-pip.md", "Start it"): OFFLINE,
    ("docs/how-to/run-with-docker.md", "Start"): IN_DOCKER,
    ("docs/how-to/run-with-docker.md", "Start a second service too"): (
        "tests/system/test_example_in_docker.py starts both so"
    ),
    ("docs/how-to/monitor.md", "Collect metrics"): "tests/system/test_prometheus.py runs it",
    ("docs/how-to/monitor.md", "Start Prometheus and Grafana"): (
        "tests/system/test_monitoring_in_docker.py starts the service so, without the two images"
    ),
    (
        "docs/tutorials/first-hour.md",
        "Run it and sign in",
    ): "tests/system/test_make_run.py runs the last",
    ("docs/tutorials/first-hour.md", "Test and document it"): "tests/test_tutorial.py runs parts",
    ("docs/how-to/clients-and-gateways.md", "HAProxy"): "tests/cli/test_keys.py runs the command",
    (
        "docs/how-to/run-in-production.md",
        "Run several replicas",
    ): "tests/system/test_scale_out.py runs it",
    ("CONTRIBUTING.md", "Set up"): "CI runs what tests; the rest goes on or changes files",
}
TO_BE_MADE = {
    "app/api/reports.py",
    "app/cli/reports.py",
    "app/reports/__init__.py",
    "app/reports/models.py",
    "app/reports/reports.py",
    "migrations/versions/0021_reports.py",
    "tests/api/test_reports.py",
}
"""Files that the tutorial tells the reader to make."""
COMMANDS_TO_BE_MADE = {"scopegate reports"}
EVERY_DOCUMENT = pytest.mark.parametrize("document", documents(), ids=lambda each: each.name)


@pytest.mark.system
def test_readme_does_what_it_says(own_database_url: str) -> None:
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    scopegate = shlex.join([sys.executable, "-m", "app"])
    with serving(**settings) as service:
        readme_is_true_of(service.url, scopegate=scopegate, env=environment(**settings))


def test_every_document_with_commands_is_walked_through() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for document in documents():
        assert not document.commands() or f'"{document.name}"' in tests, document.name


def test_what_is_run_elsewhere_is_known() -> None:
    """No block escapes by being marked, or by being in another language than sh."""
    elsewhere = {
        (each.name, block.heading)
        for each in documents()
        for block in each.blocks("sh")
        if block.elsewhere
    }
    assert elsewhere == RUN_ELSEWHERE.keys()
    # What is in no language is a drawing.
    languages = {
        (language, each.name if language == "" else "anywhere")
        for each in documents()
        for language in re.findall(r"^```(.*)\n(?:.*\n)*?```$", each.text, re.M)
    }
    known = ["sh", "sh elsewhere", "python", "csv", "diff", "http", "mermaid", "nginx", "sql"]
    # Of "Clients and gateways", for the readers' own programs.
    known += ["caddy", "go", "haproxy", "java", "js", "properties", "rust", "toml", "yaml"]
    shown = {(language, "anywhere") for language in known}
    assert languages <= shown | {("", "ARCHITECTURE.md")}


def test_the_settings_are_all_there() -> None:
    assert generated_part(SETTINGS) == settings_table(), "write it anew: python -m tests.generated"
    for name in Settings.model_fields:
        assert f"`SCOPEGATE_{name.upper()}`" in SETTINGS.text


def test_the_routes_are_all_there() -> None:
    assert generated_part(API) == api_tables(), "write it anew: python -m tests.generated"


def test_the_promises_and_their_tests_are_all_there() -> None:
    assert generated_part(PROMISES_PAGE) == promises_tables(), (
        "write it anew: python -m tests.generated"
    )


def test_the_commands_are_all_there() -> None:
    table = Document("docs/reference/commands.md").tables()
    assert [name for name in commands() if f"`{name}" not in table] == []


@EVERY_DOCUMENT
def test_what_a_document_names_exists(document: Document) -> None:
    known = set(commands())
    for words in re.findall(
        r"\bscopegate (?:(?:user|scope|client|session|token|key|mail) )?[a-z][a-z-]+",
        code_in(document),
    ):
        assert words in known | {"scopegate user"} | COMMANDS_TO_BE_MADE, (
            f"no such command: {words}"
        )
    makefile = (PROJECT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", code_in(document)):
        assert f"\n{target}:" in makefile, f"nothing to make: {target}"
    settings = {f"SCOPEGATE_{name.upper()}" for name in Settings.model_fields}
    for name in re.findall(r"\bSCOPEGATE_[A-Z_]*[A-Z]\b", document.text):
        assert name in settings or name.startswith("SCOPEGATE_TEST_"), f"no such setting: {name}"


@pytest.mark.parametrize("document", linked_documents(), ids=lambda each: each.name)
def test_every_link_leads_somewhere(document: Document) -> None:
    # In code "[…](…)" is not a link.
    text = re.sub(r"^```.*?^```$", "", document.text, flags=re.M | re.S)
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (document.path.parent / path) if path else document.path
        assert linked.exists(), f"no such file: {target}"
        if anchor:
            assert anchor in anchors(linked.read_text()), f"no such heading: {target}"


@EVERY_DOCUMENT
def test_the_files_and_tests_that_a_document_names_exist(document: Document) -> None:
    for name in (
        set(re.findall(r"`([\w.]+/[\w/.-]*\.(?:py|md|yml)(?:::\w+)?)`", document.text)) - TO_BE_MADE
    ):
        path, _, test = name.partition("::")
        there = [each for each in (PROJECT / path, PROJECT / "app" / path) if each.exists()]
        assert there, f"no such file: {name}"
        assert f"def {test}" in there[0].read_text() or not test, f"no such test: {name}"


def test_every_document_that_another_file_names_exists() -> None:
    """Deployments, code, tests and error texts name documents by their path in the project."""
    folders = ("app", "bench", "client", "deploy", "examples", "migrations", "tests")
    files = [path for folder in folders for path in files_in(folder)]
    files += [path for path in PROJECT.iterdir() if path.suffix not in {".lock", ".md"}]
    for path in files:
        if path.suffix in {".pyc", ".svg", ".md"} or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        for name, heading in re.findall(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?", text):
            assert (PROJECT / name).exists(), f"{path} names {name}, which does not exist"
            assert not heading or heading in anchors((PROJECT / name).read_text()), (path, heading)


def test_the_index_names_every_page() -> None:
    index = Document("docs/README.md")
    linked = {
        (index.path.parent / target).resolve()
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", index.text)
    }
    pages = {each.path for each in documents() if each.name.startswith("docs/")} - {index.path}
    unnamed = [str(page) for page in pages - linked if page.parent.name != "decisions"]
    assert unnamed == []


def test_every_decision_is_in_the_index_and_says_why_what_and_what_follows() -> None:
    index = Document("docs/decisions/README.md")
    records = sorted(path for path in index.path.parent.glob("*.md") if path != index.path)
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(1, len(records) + 1))
    for number, path in zip(numbers, records, strict=True):
        text = path.read_text()
        title = text.splitlines()[0].removeprefix(f"# {number:04}: ")
        assert f"| [{number:04}]({path.name}) | {title} |" in index.text
        parts = re.findall(r"^## (.+)$", text, re.M)
        assert parts == ["Context", "Decision", "Consequences"], path.name


def test_the_changelog_is_in_the_form_of_keep_a_changelog() -> None:
    text = Document("CHANGELOG.md").text
    unreleased, *versions = re.split(r"^## ", text, flags=re.M)[1:]
    assert unreleased.startswith("Unreleased\n")
    numbers = []
    for version in versions:
        heading = version.splitlines()[0]
        found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)( - (unreleased|\d{4}-\d\d-\d\d))?", heading)
        assert found, heading
        numbers.append(tuple(map(int, found.groups()[:3])))
        kinds = re.findall(r"^### (.+)$", version, re.M)
        in_order = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
        assert kinds == [kind for kind in in_order if kind in kinds], f"kinds of {heading}"
    assert numbers == sorted(numbers, reverse=True)
    with (PROJECT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert tuple(map(int, version.split("."))) in numbers[:2]


def code_in(document: Document) -> str:
    """What is set as code, in blocks and in lines."""
    return "\n".join(re.findall(r"^```.*?^```$|`[^`]+`", document.text, re.M | re.S))


def anchors(text: str) -> set[str]:
    """How headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
