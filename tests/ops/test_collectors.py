"""Collectors of traces that don't answer, answer too much or are not there."""

import gzip
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from app.ops.spans import FLUSHING, DiscreetExporter
from app.ops.tracing import configured_tracing
from app.runtime import Runtime
from tests.support.processes import (
    SERVE,
    eventually,
    free_port,
    serving,
)
from tests.support.traces import ENDPOINT, sign_in

pytestmark = pytest.mark.system


@pytest.fixture
def deaf_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A collector that takes connections and never answers, which the environment waits for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
        yield listener


@pytest.mark.parametrize("workers", [1, 2])
def test_a_collector_that_never_answers_keeps_neither_requests_nor_the_end(
    workers: int, deaf_collector: socket.socket, settings: dict[str, Any]
) -> None:
    with serving((*SERVE, "--workers", str(workers)), **settings) as service:
        with httpx2.Client(base_url=service.url) as client:
            bearer = sign_in(client)
            for _ in range(100):
                assert client.get("/users/me", headers=bearer).status_code == 200
        # It holds the first spans, and is owed the rest.
        connection, _ = deaf_collector.accept()
        with connection:
            service.terminate()
        assert service.process.returncode == 0


class Answering(BaseHTTPRequestHandler):
    """Takes whatever it is sent, and answers as its class says."""

    protocol_version = "HTTP/1.1"
    headers_sent: ClassVar[dict[str, str]] = {"Content-Length": "0"}
    body = b""
    clients: ClassVar[list[object]]

    def do_POST(self) -> None:
        self.clients.append(self.client_address)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(headers: dict[str, str], body: bytes = b"") -> Iterator[tuple[str, list[object]]]:
    """A collector that answers like this: its address, and whom it has answered."""
    clients: list[object] = []
    answer = {"headers_sent": headers, "body": body, "clients": clients}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (Answering,), answer)) as server:
        # Whoever keeps a connection open at the end is not waited for.
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", clients
        finally:
            server.shutdown()
            thread.join()


def one_span() -> ReadableSpan:
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("test")
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


LARGE = 50_000_000


@pytest.mark.parametrize(
    ("headers", "bodies"),
    [
        ({}, lambda: bytes(LARGE)),
        ({"Content-Encoding": "gzip"}, lambda: gzip.compress(bytes(LARGE))),
        ({"Content-Length": "1"}, bytes),
        ({"Transfer-Encoding": "chunked"}, bytes),
    ],
    ids=["a large one", "a bomb", "one that never ends", "one whose chunks never end"],
)
def test_no_answer_of_a_collector_fills_the_memory_or_is_waited_for(
    headers: dict[str, str], bodies: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5")
    if body := bodies():
        headers = headers | {"Content-Length": str(len(body))}
    with answering(headers, body) as (url, _):
        monkeypatch.setenv(ENDPOINT, url)
        exporter = DiscreetExporter()
        tracemalloc.start()
        try:
            assert exporter.export([one_span()]) is SpanExportResult.SUCCESS
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            exporter.shutdown()  # type: ignore[no-untyped-call]
    assert peak < LARGE / 10


def test_a_collector_that_answers_nothing_but_ok_keeps_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering({"Content-Length": "0"}) as (url, clients):
        monkeypatch.setenv(ENDPOINT, url)
        exporter = DiscreetExporter()
        for _ in range(2):
            assert exporter.export([one_span()]) is SpanExportResult.SUCCESS
        exporter.shutdown()  # type: ignore[no-untyped-call]
    assert len(clients) == 2
    assert len(set(clients)) == 1


async def test_the_end_does_not_wait_for_the_last_spans_to_be_taken(
    deaf_collector: socket.socket, own_runtime: Runtime
) -> None:
    tracing = configured_tracing()
    assert tracing
    async with tracing.exporting(own_runtime.engine.sync_engine):
        tracing.provider.get_tracer("test").start_span("test").end()
    (flushing,) = [each for each in threading.enumerate() if each.name == FLUSHING]
    connection, _ = deaf_collector.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        flushing.join()


def test_a_collector_that_is_not_there_keeps_neither_requests_nor_the_end(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    with serving(**settings) as service:
        with httpx2.Client(base_url=service.url) as client:
            bearer = sign_in(client)
            eventually(lambda: "opentelemetry.exporter" in service.output())
            assert client.get("/users/me", headers=bearer).status_code == 200
        service.terminate()
        assert service.process.returncode == 0
        # Why, for who looks for the traces.
        assert "Connection refused" in service.output()
