"""Logging: one line an event, JSON in production, readable in development.

All code uses Python's own `logging`, as libraries do, and puts searchable fields into `extra`. This
module sets the format.
"""

import logging
import sys
import traceback
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from app.ops.log_output import LogOutput
from app.settings import Settings

logger = logging.getLogger(__name__)


def configure_logging(settings: Settings) -> None:
    """Write this process's log to stdout, from level INFO on.

    Only a serving process does this: commands print their messages.
    """
    rendering: list[Processor]
    if settings.environment == "production":
        rendering = [trace_without_texts, structlog.processors.JSONRenderer(default=str)]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
                pad_event_to=0,
            )
        ]
    output = LogOutput(sys.stdout)
    handler = LogHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


class LogHandler(logging.Handler):
    """Hands records to the output, as the formatter writes them."""

    def __init__(self, output: LogOutput) -> None:
        self.output = output
        super().__init__()

    def createLock(self) -> None:  # noqa: N802 - logging's own name
        """Have one lock for both: with two, a thread could wait for each of them."""
        self.lock = self.output.lock

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            self.output.line(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - as every handler of logging's own does
            self.handleError(record)

    def close(self) -> None:
        """Write what waits."""
        self.output.close()
        super().close()


def log_output() -> LogOutput | None:
    """Return where this process's log goes; None where `configure_logging` has not been called."""
    handlers = logging.getLogger().handlers
    return next((each.output for each in handlers if isinstance(each, LogHandler)), None)


@dataclass(slots=True)  # Not frozen: that takes three times as long.
class Answered:
    """A request that was answered: what its line in the log says."""

    request_id: str
    trace_id: str | None
    user_id: uuid.UUID | None
    method: str
    route: str | None
    status: int
    seconds: float
    in_database: float
    """Seconds of these."""
    crash: Exception | None


class RequestLog:
    """Logs requests, in one line each, where `configure_logging` has been called.

    Without a crash, past the formatter: it takes a third of the time of a whole request that needs
    no database query.
    """

    def __init__(self, settings: Settings) -> None:
        self._line = _json_line if settings.environment == "production" else _plain_line

    def log(self, answered: Answered) -> None:
        """Log an answered request, with the exception if it crashed."""
        output = log_output()
        if output is None:
            return
        fields: dict[str, object] = {
            "request_id": answered.request_id,
            "user_id": answered.user_id,
            "method": answered.method,
            "route": answered.route,
            "status": answered.status,
            "duration_ms": round(answered.seconds * 1000, 2),
            "database_ms": round(answered.in_database * 1000, 2),
        }
        if answered.trace_id:
            fields["trace_id"] = answered.trace_id
        if answered.crash:
            logger.error("request", extra=fields, exc_info=answered.crash)
        else:
            now = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
            output.line(self._line(now, fields))


def _json_line(now: str, fields: dict[str, object]) -> bytes:
    head = {"event": "request", "level": "info", "logger": __name__, "timestamp": now}
    return to_json({**head, **fields}) + b"\n"


def _plain_line(now: str, fields: dict[str, object]) -> bytes:
    told = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
    return f"{now} [info     ] request [{__name__}] {told}\n".encode("utf-8", "backslashreplace")


def trace_without_texts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put where an exception came from into `trace`: the code's lines and the exceptions' names.

    The exceptions' texts, which can repeat what a client sent, and local variables are left out.
    """
    exc_info = event.pop("exc_info", None)
    if exc_info:
        event["trace"] = "".join(_trace(exc_info[1]))
    return event


def _trace(error: BaseException) -> list[str]:
    # As Python does: first what came first.
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [*_trace(before), "\n"] if before else []
    kind = type(error)
    lines += ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)]
    return [*lines, f"{kind.__module__}.{kind.__qualname__}\n"]
