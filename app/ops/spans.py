"""The traces that a collector receives: the spans of requests and of their statements.

FastAPI makes a request's span, and puts the path, the query and the Host header into it. This
module makes the statements' spans, and removes everything that a client or the database may have
written.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from io import BytesIO
from threading import Thread
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
)
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from app.db.engine import sqlstate_of

EXPORTED_ATTRIBUTES = {
    *("http.request.method", "http.route", "http.response.status_code"),
    *("url.scheme", "network.protocol.version", "error.type"),
    *("db.system.name", "db.operation.name", "db.query.text"),
}
"""The attributes that may leave: what this code and its libraries write, and no client."""

FLUSHING = "flushing traces"
"""The thread that sends the last spans. The process waits for it FLUSH_TIMEOUT at most."""
FLUSH_TIMEOUT = 2.0
"""Seconds in which the collector must accept the last spans; after that they are lost."""


class Tracing:
    """Traces of one process: `provider` makes spans, which go nowhere outside of `exporting`."""

    def __init__(self) -> None:
        named = OTELResourceDetector().detect().attributes.get(SERVICE_NAME, "scopegate")
        resource = Resource.create({SERVICE_NAME: named, "service.version": version("scopegate")})
        # At exit it would wait for a collector that does not answer.
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)

    @asynccontextmanager
    async def exporting(self, engine: Engine) -> AsyncIterator[None]:
        """Trace the engine's statements too, and send all spans while the block runs.

        A thread sends them in batches, so no request waits for them. Beyond 2048 waiting spans,
        some are dropped.
        """
        trace_statements(engine, self.provider.get_tracer("scopegate"))
        self.provider.add_span_processor(BatchSpanProcessor(DiscreetExporter()))
        try:
            yield
        finally:
            # Not in a thread of asyncio's, which would be waited for.
            flushing = Thread(target=self.provider.shutdown, name=FLUSHING, daemon=True)
            flushing.start()
            await asyncio.to_thread(flushing.join, FLUSH_TIMEOUT)

    @staticmethod
    def trace_id() -> str | None:
        """Return the id of the current trace, in hex."""
        context = get_current_span().get_span_context()
        return format_trace_id(context.trace_id) if context.is_valid else None


def trace_statements(engine: Engine, tracer: Tracer) -> None:
    """Make a span of each statement of a traced request, with its text and without values."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_conn: Any, _cursor: Any, sql: str, _values: Any, context: Any, _many: bool) -> None:
        # What the service does by itself, such as housekeeping, belongs to no request.
        if get_current_span().is_recording():
            operation = sql.split(maxsplit=1)[0].upper()
            attributes = {
                "db.system.name": "postgresql",
                "db.operation.name": operation,
                "db.query.text": sql,
            }
            context.span = tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)

    @event.listens_for(engine, "after_cursor_execute")
    def end(_conn: Any, _cursor: Any, _sql: str, _values: Any, context: Any, _many: bool) -> None:
        if span := getattr(context, "span", None):
            span.end()

    @event.listens_for(engine, "handle_error")
    def fail(failure: ExceptionContext) -> None:
        span = getattr(failure.execution_context, "span", None)
        # The span has ended already if the statement succeeded and only its rows could not be read.
        if span and span.is_recording():
            error = failure.original_exception
            span.set_attribute("error.type", sqlstate_of(error) or type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            span.end()


class HeadsOnly(HTTPAdapter):
    """Reads no response's body: it could be huge, compressed or endless."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send it; the answer has an empty body, whatever came."""
        answer = super().send(request, *args, **kwargs)
        # A connection with nothing left to read can be used again; most responses have no body.
        if answer.raw.length_remaining != 0:
            answer.raw.close()
        answer.raw.release_conn()
        answer.raw = BytesIO()
        return answer


class DiscreetExporter(OTLPSpanExporter):
    """Sends spans by OTLP over HTTP, with only the attributes on the list."""

    def __init__(self) -> None:
        session = Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HeadsOnly())
        super().__init__(session=session)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them, as the `OTEL_EXPORTER_OTLP_*` variables say."""
        return super().export([_discreet(span) for span in spans])


def _discreet(span: ReadableSpan) -> ReadableSpan:
    """Return the span with listed attributes only, and without events: they repeat exceptions."""
    context = span.get_span_context()
    assert context is not None
    return ReadableSpan(
        name=span.name,
        # Without the state of other tracers.
        context=SpanContext(
            context.trace_id, context.span_id, is_remote=False, trace_flags=context.trace_flags
        ),
        parent=span.parent,
        resource=span.resource,
        attributes={
            key: value
            for key, value in (span.attributes or {}).items()
            if key in EXPORTED_ATTRIBUTES
        },
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
