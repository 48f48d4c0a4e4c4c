"""Logging: one line an event, JSON in production, readable in development.

All code logs by Python's own `logging`, as libraries do, with what is to be searched in `extra`;
here is how it all looks.
"""

import logging
import sys
import traceback

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Have all that this process logs written to stdout, from level INFO on.

    Only a serving process does this: what a command has to say, it prints.
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
    handler = logging.StreamHandler(sys.stdout)
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


def trace_without_texts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put where an exception came from into `trace`: the code's lines and the exceptions' names.

    Without their texts, which can repeat what a client sent, and without locals.
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
