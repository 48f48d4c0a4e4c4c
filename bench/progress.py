"""Saying what is being done, all along."""

import time

_started = time.monotonic()


def say(text: str) -> None:
    """Print a line, with the time since the start."""
    passed = int(time.monotonic() - _started)
    print(f"[{passed // 60:2}:{passed % 60:02}] {text}", flush=True)
