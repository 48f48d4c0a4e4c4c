"""`make fuzz`: what this folder tests, at random and in rounds, for as long as one likes.

Each round has a seed, which is printed: `--seed` runs that round again, and no other.
"""

import argparse
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

FULL = 100_000
"""So many forms and tokens are tried when no time is given."""
TRIED = re.compile(r"- (\d+) passing, ")


def main() -> int:
    """Run rounds until enough is tried or one fails; the exit code of the last one."""
    arguments = _arguments()
    began, tried = time.monotonic(), 0
    while True:
        seed = arguments.seed if arguments.seed is not None else secrets.randbits(32)
        print(f"A round with --seed {seed}", flush=True)
        failed, count = fuzz(seed)
        tried += count
        minutes = (time.monotonic() - began) / 60
        print(f"{tried:,} forms and tokens tried in {minutes:.1f} minutes", flush=True)
        enough = tried >= FULL if arguments.minutes is None else minutes >= arguments.minutes
        if failed or enough or arguments.seed is not None:
            return failed


def fuzz(seed: int) -> tuple[int, int]:
    """One round: pytest's exit code, and how many forms and tokens were tried."""
    command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "-v", "--no-header"]
    command += ["--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}"]
    command += ["--hypothesis-show-statistics", "--numprocesses=auto", "--dist=load"]
    # A round may take as long as it likes.
    command += ["--override-ini=faulthandler_timeout=0"]
    pytest = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert pytest.stdout
    lines = []
    for line in pytest.stdout:
        lines.append(line)
        if line.startswith("[gw"):
            print(line, end="", flush=True)
    failed, output = pytest.wait(), "".join(lines)
    if failed:
        print(output)
    return failed, sum(map(int, TRIED.findall(output)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"begin no round after these; without: until {FULL:,} forms and tokens were tried",
    )
    parser.add_argument("--seed", type=int, help="run the round of this seed alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
