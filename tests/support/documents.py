"""The documents as data, and a terminal that their blocks are pasted into as they stand."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.settings import PROJECT

ELSEWHERE = "elsewhere"
"""What stands behind the fence of a block that its document's test does not run."""
SERVED_AT = "http://127.0.0.1:8000"
"""Where the documents have the service."""
BLOCK_ENDS = "== the block ends here =="
_PART = re.compile(
    r"^##+ (?P<heading>[^\n]+)\n|^```(?P<language>\w*) ?(?P<mark>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A code block: under which heading it stands, and whether it is run elsewhere."""

    heading: str
    language: str
    elsewhere: bool
    text: str


@dataclass(frozen=True)
class Document:
    """A document, by its path in the project."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return PROJECT / self.name

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text()

    def blocks(self, language: str) -> list[Block]:
        """Its code blocks of one language."""
        heading, found = "", []
        for part in _PART.finditer(self.text):
            if part["heading"]:
                heading = part["heading"]
            elif part["language"] == language:
                found.append(Block(heading, language, part["mark"] == ELSEWHERE, part["text"]))
        return found

    def commands(self) -> list[Block]:
        """The blocks that its test runs."""
        return [block for block in self.blocks("sh") if not block.elsewhere]

    def tables(self) -> str:
        """The lines of its tables."""
        return "".join(re.findall(r"^\|.*\n", self.text, re.M))


def documents() -> list[Document]:
    """Return the documents for people who use, run or change the service."""
    names = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
    names += sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "docs").rglob("*.md"))
    return [Document(name) for name in names]


def linked_documents() -> list[Document]:
    """Return all documents whose links must hold: also those beside deployments and examples."""
    names = ["CHANGELOG.md"]
    for folder in ("bench", "client", "deploy", "examples", "tests"):
        own = (path for path in files_in(folder) if path.suffix == ".md")
        names += sorted(str(path.relative_to(PROJECT)) for path in own)
    return documents() + [Document(name) for name in names]


def files_in(folder: str) -> list[Path]:
    """Return the files in a folder of the project, without what npm installs into it."""
    found = (PROJECT / folder).rglob("*")
    return [path for path in found if "node_modules" not in path.parts and path.is_file()]


class Walk:
    """The commands of one or more documents on their way through one shell, block by block."""

    def __init__(
        self, blocks: list[Block], shell: subprocess.Popen[str], replacing: Mapping[str, str]
    ) -> None:
        self._blocks = blocks
        self._shell = shell
        self._replacing = replacing

    def paste(self, heading: str) -> str:
        """Paste the next block, which stands under this heading; what it printed."""
        assert self.next_heading() == heading
        return self._run(self._blocks.pop(0).text)

    def given(self, **variables: str) -> None:
        """Set what the reader has in hand, and the document calls so."""
        for name, value in variables.items():
            self._run(f"{name}={shlex.quote(value)}")

    def next_heading(self) -> str | None:
        """Where the next block stands; None at the end."""
        return self._blocks[0].heading if self._blocks else None

    def _run(self, text: str) -> str:
        for written, meant in self._replacing.items():
            text = text.replace(written, meant)
        assert self._shell.stdin
        assert self._shell.stdout
        # Not into the shell's standard input itself: a command that reads would swallow the rest.
        self._shell.stdin.write(f"eval {shlex.quote(text)} </dev/null\necho '{BLOCK_ENDS}'\n")
        self._shell.stdin.flush()
        output = ""
        while not output.endswith(f"{BLOCK_ENDS}\n"):
            line = self._shell.stdout.readline()
            assert line, f"a command of this block failed:\n{text}\n{output}"
            output += line
        return output.removesuffix(f"{BLOCK_ENDS}\n")


@contextmanager
def walking(
    *names: str, cwd: Path, env: Mapping[str, str], replacing: Mapping[str, str]
) -> Iterator[Walk]:
    """One shell for the commands of documents, which must all be pasted, in their order.

    The first command that fails ends it. `replacing` says what is meant where the document says
    something else: another port, say.
    """
    with subprocess.Popen(
        ["sh", "-e"],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        blocks = [block for name in names for block in Document(name).commands()]
        walk = Walk(blocks, shell, replacing)
        yield walk
    assert walk.next_heading() is None, f"never tried: {walk.next_heading()}"


def readme_is_true_of(url: str, *, scopegate: str, env: Mapping[str, str]) -> None:
    """Assert that "Try it" does with this service what README says it does.

    `scopegate` is the shell's words for `.venv/bin/scopegate`.
    """
    replacing = {SERVED_AT: url, ".venv/bin/scopegate": scopegate}
    with walking("README.md", cwd=PROJECT, env=env, replacing=replacing) as walk:
        made, tokens, used, revoked = (walk.paste("Try it") for _ in range(4))
    assert "alice" in made
    assert json.loads(tokens)["scope"] == "read:items"
    assert '"username":"alice"' in used
    assert '"items":[]' in used
    assert "403 Forbidden" in used
    assert "insufficient_scope" in used
    assert "Revoked from alice: read:items" in revoked
    assert "403 Forbidden" in revoked
