"""`make dev`: serve with sample data, and start again whenever a file of the service changes."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from watchfiles import watch

from app.db.embedded import EmbeddedPostgres
from app.settings import PROJECT, Settings
from dev.sample_data import (
    DIRECT,
    READER,
    SCOPES,
    SERVICE,
    TEMPORARY,
    WRITER,
    SampleData,
    sample_data,
)

WATCHED = PROJECT / "app"
POLL_INTERVAL = 0.1  # seconds
TIMEOUT = 5.0  # seconds
ENDED = (
    "The service ended. Run .venv/bin/scopegate migrate if it says so, or mend the code. "
    "Then save a file in app/: that starts the service again."
)
SCOPEGATE = (sys.executable, "-m", "app")


def main() -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    settings = Settings()
    if settings.environment == "production":
        sys.exit("make dev is for development: SCOPEGATE_ENVIRONMENT says production.")
    try:
        with _postgres(settings):
            _serve_with_reload(settings)
    except KeyboardInterrupt:
        pass


@contextmanager
def _postgres(settings: Settings) -> Iterator[None]:
    """Keep the embedded Postgres while the service restarts, and migrate the database."""
    postgres = EmbeddedPostgres.start(settings.home) if settings.database_url is None else None
    try:
        subprocess.run([*SCOPEGATE, "migrate", "--first-admin"], cwd=PROJECT, check=True)
        yield
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    finally:
        if postgres:
            postgres.release()


def _serve_with_reload(settings: Settings) -> None:
    # Where it listens, whatever the public URL is.
    url = settings.model_copy(update={"issuer": None}).token_issuer
    if _answers(url):
        sys.exit(f"Another service answers at {url}: set SCOPEGATE_PORT.")
    service = _start()
    try:
        if _is_ready(service, url):
            print(_what_to_try(settings, url), flush=True)
        for changes in watch(WATCHED, raise_interrupt=True):
            # An editor's temporary files have gone again.
            changed = {Path(path) for _, path in changes if Path(path).exists()}
            names = sorted(str(path.relative_to(PROJECT)) for path in changed)
            print(f"Changed: {', '.join(names) or 'app/'}. The service restarts.", flush=True)
            _stop(service)
            service = _start()
            if not _is_ready(service, url):
                print(ENDED, flush=True)
    finally:
        _stop(service)


def _start() -> subprocess.Popen[bytes]:
    # A process group of its own: Ctrl-C reaches this process alone, which then stops the service.
    return subprocess.Popen([*SCOPEGATE, "serve"], cwd=PROJECT, start_new_session=True)


def _stop(service: subprocess.Popen[bytes]) -> None:
    service.terminate()
    service.wait()


def _is_ready(service: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the service answers. Return False if it ended instead."""
    while service.poll() is None:
        if _answers(url):
            return True
        time.sleep(POLL_INTERVAL)
    return False


def _answers(url: str) -> bool:
    try:
        with DIRECT.open(f"{url}/health/ready", timeout=TIMEOUT):
            return True
    except OSError:
        return False


def _what_to_try(settings: Settings, url: str) -> str:
    text = f"""
Scopegate serves at {url} and restarts when a file in app/ changes.

  documentation  {url}/docs
  console        {url}/console
"""
    if settings.database_url is not None:
        return text + "\nSCOPEGATE_DATABASE_URL is set, so no sample data is put there.\n"
    try:
        sample = sample_data(settings.home, url)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{text}\nThe sample data could not be put in: {error}\n"
    return text + _sample_text(sample, url)


def _sample_text(sample: SampleData, url: str) -> str:
    accounts = "".join(f"  {name:<14} {' '.join(scopes)}\n" for name, scopes in SCOPES.items())
    form = f"-d username={WRITER} -d password={sample.password}"
    token = "python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access_token\"])'"
    return f"""
Sample accounts and their scopes ({READER} holds {TEMPORARY} too, for a week):

{accounts}
  password of the people      {sample.password}
  secret of {SERVICE}    {sample.client_secret}

Try:

  TOKEN=$(curl -s {url}/token {form} | {token})
  curl -s {url}/items -H "Authorization: Bearer $TOKEN"
  curl -s {url}/introspect -u {SERVICE}:{sample.client_secret} -d token=$TOKEN
  .venv/bin/scopegate revoke {WRITER} write:items

After a change of migrations or of shipped scopes, run: .venv/bin/scopegate migrate
"""


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
