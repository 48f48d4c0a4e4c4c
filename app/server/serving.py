"""Serving: from the listening socket to the last answer, in one process or in several workers."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import uvicorn

from app.db.url import unproven_servers
from app.errors import ConfigurationError, ScopegateError
from app.ops.logging import configure_logging
from app.server.connections import MakeApp, ServerConfig
from app.server.memory import keep_pages_shared, share_one_heap
from app.server.workers import Worker
from app.setting_types import is_any_address
from app.settings import Settings

logger = logging.getLogger(__name__)

HANGUP = getattr(signal, "SIGHUP", None)
"""The signal that a closing terminal sends, more than once. Windows does not have it."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *filter(None, [HANGUP]))
SHUTTING_DOWN = "shutting down"
POLL_INTERVAL = 0.1  # seconds
RESPAWN_PAUSE = 1.0  # seconds


class DidNotStart(ScopegateError):
    """uvicorn has said why."""

    text = "the service did not start"


def serve(settings: Settings, make_app: MakeApp, *, workers: int) -> None:
    """Serve the app until SIGTERM, SIGHUP or Ctrl-C, let requests under way finish, and return.

    A second signal ends it at once, unless it is SIGHUP. If SIGHUP is ignored already, as under
    `nohup`, it stays ignored. Raises ConfigurationError when the port can't be opened or the app
    can't be built, DidNotStart when the app can't be started.
    """
    configure_logging(settings)
    config = ServerConfig(settings, make_app)
    config.load()
    for setting, hosts in unproven_servers(settings).items():
        logger.warning(
            "%s does not verify %s: add sslmode=verify-full&sslrootcert=FILE",
            setting,
            ", ".join(hosts),
        )
    with _listen(settings.host, settings.port) as listener:
        text = "serving at %s, console at %s/console, documentation at %s/docs"
        logger.info(text, *[settings.token_issuer] * 3)
        if workers > 1:
            # This imports uvloop, once for all of them.
            config.get_loop_factory()
            _supervise(workers, listener, settings, make_app)
        else:
            _run(Server(config, settings), listener)
    logger.info("stopped")


class Server(uvicorn.Server):
    """uvicorn's server, which drains at the first signal and then returns."""

    _announced = False
    _draining = False

    def __init__(self, config: ServerConfig, settings: Settings) -> None:
        super().__init__(config)
        self._delay = settings.shutdown_delay.total_seconds()
        self._stop_at: float | None = None

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        """Report not ready, and stop after the delay; a second signal is not caught."""
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN if each == HANGUP else signal.SIG_DFL)
        self.drain()

    def drain(self) -> None:
        """Keep serving for the delay, while `/health/ready` answers 503."""
        if not self.started:
            self.should_exit = True
        elif self._stop_at is None:
            self.lifespan.state["draining"] = True
            self._stop_at = time.monotonic() + self._delay

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to stop."""
        # Not where the signal is handled: that may be in the middle of another line.
        if self._stop_at is not None and not self._announced:
            self._announced = True
            logger.info(SHUTTING_DOWN)
        if self._stop_at is not None and not self._draining:
            self._draining = True
            self.config.loaded_app.state.runtime.streams.drain()
        over = self._stop_at is not None and self._stop_at <= time.monotonic()
        return await super().on_tick(counter) or over


class WorkerServer(Server):
    """A worker's server: it stops when its parent says so, or when its parent has died."""

    _announced = True  # by its parent, once for all workers

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Drain at SIGTERM, however often it comes: a service manager may signal both processes.

        Ctrl-C and SIGHUP reach the whole process group. The worker ignores them, because the parent
        sends it SIGTERM.
        """
        if sig == signal.SIGTERM:
            self.drain()

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to stop."""
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:
            self.drain()
        return await super().on_tick(counter)


def _run(server: Server, listener: socket.socket) -> None:
    # uvicorn catches the others.
    _catch([HANGUP], server.handle_exit)
    try:
        server.run([listener])
    except SystemExit:
        raise DidNotStart from None


def _catch(signals: Iterable[int | None], handler: Callable[[int, FrameType | None], None]) -> None:
    """Have the handler called at these signals; a SIGHUP that is ignored stays so."""
    for each in filter(None, signals):
        if each != HANGUP or signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # On all addresses by IPv6: on those of IPv4 as well.
    both = is_any_address(host) and family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        # Python adds the address in brackets; the message below has it already.
        why = (error.strerror or "").partition(" (")[0]
        raise ConfigurationError(f"can't listen on {host}, port {port}: {why}") from None


def _supervise(count: int, listener: socket.socket, settings: Settings, make_app: MakeApp) -> None:
    """Keep `count` workers until a signal, then wait for them to finish; a second one kills them.

    A worker that ends by itself is replaced.
    """
    signals: list[int] = []
    heard = 0  # each signal is passed on once: a worker at its very end catches none any more

    def hear(number: int, _frame: FrameType | None) -> None:
        if number != HANGUP or not signals:
            signals.append(number)

    _catch(STOP_SIGNALS, hear)
    keep_pages_shared()
    with tempfile.TemporaryDirectory(prefix="scopegate-") as folder:
        all_workers = [Worker(Path(folder), number) for number in range(count)]
        start = partial(_start_worker, listener, settings, make_app)
        running = {worker: start(worker) for worker in all_workers}
        while running:
            wait([process.sentinel for process in running.values()], timeout=POLL_INTERVAL)
            ended = [worker for worker, process in running.items() if not process.is_alive()]
            for worker in ended:
                del running[worker]
            if len(signals) > heard:
                if not heard:
                    logger.info(SHUTTING_DOWN)
                heard = len(signals)
                listener.close()
                for process in running.values():
                    if heard == 1:
                        process.terminate()
                    else:
                        process.kill()
            elif ended and not signals:
                logger.warning("a worker has ended, another one starts")
                time.sleep(RESPAWN_PAUSE)
                running |= {worker: start(worker) for worker in ended}
    if len(signals) > 1:
        signal.signal(signals[-1], signal.SIG_DFL)
        signal.raise_signal(signals[-1])


def _start_worker(
    listener: socket.socket, settings: Settings, make_app: MakeApp, worker: Worker
) -> BaseProcess:
    process = _process_class()(target=_work, args=(listener, settings, make_app, worker))
    # A child inherits ignored signals. So it ignores Ctrl-C while it starts, and SIGHUP always: its
    # parent handles both. A forked child also inherits its parent's handler of SIGTERM, so no
    # SIGTERM may reach it before it has removed that.
    of_terminals = [each for each in STOP_SIGNALS if each != signal.SIGTERM]
    handlers = {each: signal.signal(each, signal.SIG_IGN) for each in of_terminals}
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    process.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    for each, handler in handlers.items():
        signal.signal(each, handler)
    return process


def _process_class() -> type[ForkProcess | SpawnProcess]:
    """Return ForkProcess where that is safe: it shares the memory of all that is imported.

    A lock that another thread holds would stay held in the child. And the libraries of macOS may
    run threads of their own.
    """
    alone = threading.active_count() == 1
    return ForkProcess if sys.platform == "linux" and alone else SpawnProcess


def _work(listener: socket.socket, settings: Settings, make_app: MakeApp, worker: Worker) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    # Spawned, it has only imported the app so far, to unpickle `make_app`: that starts no thread.
    share_one_heap()
    # What waits in its parent's log is for its parent to write.
    logging.getLogger().handlers.clear()
    configure_logging(settings)
    try:
        _run(WorkerServer(ServerConfig(settings, make_app, worker), settings), listener)
    finally:
        # A forked process ends without Python's own end, which writes the log's last lines.
        logging.shutdown()
