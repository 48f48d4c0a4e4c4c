"""What a service has logged, by its lines."""

import json
from typing import Any

REQUEST_KEYS = {
    *("timestamp", "level", "logger", "event"),
    *("request_id", "user_id", "method", "route", "status", "duration_ms", "database_ms"),
}


def lines_of(output: str) -> list[dict[str, Any]]:
    """Every line, which must be JSON."""
    return [json.loads(line) for line in output.splitlines()]


def requests_of(output: str) -> list[dict[str, Any]]:
    return [line for line in lines_of(output) if line["event"] == "request"]
