"""What leaves as traces: which spans, nothing that a client sent, and nothing at all by default."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from app.errors import ConfigurationError
from app.ops.tracing import configured_tracing
from tests.support.canaries import BASIC, CANARY, live_secrets, plant_canaries
from tests.support.factories import PASSWORD
from tests.support.logs import REQUEST_KEYS, requests_of
from tests.support.processes import (
    ROOT,
    SERVE,
    environment,
    serving,
)
from tests.support.traces import ENDPOINT, sign_in

pytestmark = pytest.mark.system
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.received: list[bytes] = []
        self.keys: set[str | None] = set()

    @property
    def spans(self) -> list[Span]:
        """All that came, in the order of their beginning."""
        spans = [
            span for each in self.resources for part in each.scope_spans for span in part.spans
        ]
        return sorted(spans, key=lambda span: span.start_time_unix_nano)

    @property
    def resources(self) -> list[Any]:
        told = [ExportTraceServiceRequest.FromString(body) for body in self.received]
        return [resource for each in told for resource in each.resource_spans]

    @property
    def requests(self) -> list[Span]:
        return [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER]

    def statements_of(self, request: Span) -> list[Span]:
        return [span for span in self.spans if span.parent_span_id == request.span_id]


class Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        self.server.keys.add(self.headers["X-Key"])
        self.server.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def attributes_of(told: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value")))
        for each in told.attributes
    }


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """What the environment names as the collector of every service that is started.

    It is told nothing before a service ends, unless there is much: so all that it has is the last.
    """
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def test_a_collector_is_told_of_requests_and_their_statements(
    collector: Collector, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "X-Key=opens")
    with serving(**settings) as service:
        with httpx2.Client(base_url=service.url) as client:
            bearer = sign_in(client)
            given = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            user = client.get("/users/me", headers=bearer | given).json()["id"]
            client.get("/users/me", headers=bearer)
            client.get(f"/users/{user}", headers=bearer)
            client.get("/nowhere")
            for path in ("/health/live", "/health/ready", "/metrics"):
                client.get(path, headers=given)
        service.terminate()
        lines = requests_of(service.output())
    login, first, again, other, nowhere = collector.requests
    assert [span.name for span in collector.requests] == [
        *("POST /token", "GET /users/me", "GET /users/me", "GET /users/{user_id}", "GET"),
    ]
    assert attributes_of(login) == {
        "http.request.method": "POST",
        "http.route": "/token",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
    }
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert [line["trace_id"] for line in lines] == [
        span.trace_id.hex() for span in collector.requests
    ]
    assert {frozenset(line) for line in lines} == {frozenset(REQUEST_KEYS | {"trace_id"})}

    statements = collector.statements_of(login)
    assert {"SELECT", "WITH"} <= {span.name for span in statements}
    for span in statements:
        assert span.trace_id == login.trace_id
        assert span.start_time_unix_nano < span.end_time_unix_nano
        told = attributes_of(span)
        assert (told["db.system.name"], told["db.operation.name"]) == ("postgresql", span.name)
    assert any("$1" in attributes_of(span)["db.query.text"] for span in statements)
    assert collector.statements_of(first)
    assert not collector.statements_of(again), "who that is was remembered"
    assert collector.statements_of(other)
    assert not collector.statements_of(nowhere)
    # What a process asks by itself, or to tell that it is ready, is no request.
    assert {span.parent_span_id for span in collector.spans} == {
        *(b"", first.parent_span_id, login.span_id, first.span_id, other.span_id),
    }
    assert [span for span in collector.spans if not span.parent_span_id] == [
        *(login, again, other, nowhere),
    ]

    assert {attributes_of(each.resource)["service.name"] for each in collector.resources} == {
        "scopegate"
    }
    assert collector.keys == {"opens"}


def test_nothing_that_a_client_sent_is_told_to_a_collector(
    collector: Collector, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # FastAPI's own exporter, which would send all that is in a span.
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    hints = {
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "tracestate": f"{CANARY}={CANARY}",
        "baggage": f"{CANARY}={CANARY}",
        "Host": f"{CANARY}.example:81",
    }
    with serving(**settings) as service, httpx2.Client(base_url=service.url) as client:
        secrets = live_secrets(client)
        bearer = {"Authorization": f"Bearer {secrets[2]}"}
        asked = 4 + plant_canaries(client, bearer)
        client.headers.update(hints)
        asked += plant_canaries(client, bearer)
        ids = [
            client.post(
                "/users", json={"username": name, "password": PASSWORD}, headers=bearer
            ).json()["id"]
            for name in (f"{CANARY}-1", f"{CANARY}-2")
        ]
        taken = client.patch(f"/users/{ids[0]}", json={"username": f"{CANARY}-2"}, headers=bearer)
        assert taken.status_code == 409
        asked += 3
    assert len(collector.requests) == asked
    told = b"".join(collector.received).lower()
    for secret in (CANARY, BASIC, *secrets, "authorization", "user-agent"):
        assert secret.lower().encode() not in told
    # That a statement failed is told, and how: not with the text, which repeats the name.
    failed = [span for span in collector.spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert [attributes_of(span)["error.type"] for span in failed] == ["23505"]
    assert failed[0].status == Status(code=Status.STATUS_CODE_ERROR)
    assert {"/users/{user_id}", "/scopes/{name}"} <= {
        attributes_of(span).get("http.route") for span in collector.requests
    }


def test_each_worker_tells_what_it_has_answered(
    collector: Collector, settings: dict[str, Any]
) -> None:
    with serving((*SERVE, "--workers", "2"), **settings) as service:
        for _ in range(20):
            assert httpx2.get(f"{service.url}/docs").status_code == 200
        service.terminate()
    assert len(collector.requests) == 20


IMPORTED = """
import sys
from app.main import create_app
from app.settings import Settings
create_app(Settings(_env_file=None))
heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests")
print(*(name for name in heavy if name in sys.modules))
"""


def imported(**variables: str) -> list[str]:
    """What of OpenTelemetry's SDK an app imports that is made with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_where_no_traces_are_asked_for_nothing_of_them_is_imported(
    variables: dict[str, str],
) -> None:
    assert imported(**variables) == []


@pytest.mark.parametrize("name", [ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_either_endpoint_asks_for_traces(name: str) -> None:
    assert "opentelemetry.sdk" in imported(**{name: "http://127.0.0.1:4318"})


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "must be otlp or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf alone"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "http/protobuf alone"),
        ({ENDPOINT: "collector.example:4318"}, "must be a URL"),
    ],
)
def test_what_can_not_be_traced_is_refused_at_the_start(
    variables: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=why):
        configured_tracing()


WITHOUT_THE_SDK = """
import sys
sys.modules["opentelemetry.sdk"] = None
from app.cli import main
sys.argv[1:] = ["serve"]
main()
"""


def test_traces_without_what_makes_them_stop_the_start_in_one_line(
    settings: dict[str, Any],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_SDK],
        cwd=ROOT,
        env=environment(**settings) | {ENDPOINT: "http://127.0.0.1:4318"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "pip install 'scopegate[otel]'" in line
