"""Requests are traced only if the standard `OTEL_*` variables name a collector.

Otherwise OpenTelemetry's SDK is not imported.
"""

import os
from typing import TYPE_CHECKING

from app.errors import ConfigurationError

if TYPE_CHECKING:
    from app.ops.spans import Tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def configured_tracing() -> "Tracing | None":
    """Return the tracing that the environment configures; None if it configures none.

    Raises ConfigurationError if it configures something that is not supported.
    """
    exporter = _variable("OTEL_TRACES_EXPORTER") or "otlp"
    endpoint = _first_of(ENDPOINTS)
    if not endpoint or exporter == "none" or _variable("OTEL_SDK_DISABLED").lower() == "true":
        return None
    if exporter != "otlp":
        raise ConfigurationError("OTEL_TRACES_EXPORTER must be otlp or none: no other is known")
    if _first_of(PROTOCOLS) not in {"", "http/protobuf"}:
        raise ConfigurationError(
            "traces are sent by http/protobuf alone: unset OTEL_EXPORTER_OTLP_PROTOCOL, and name "
            "the collector's port for HTTP, mostly 4318"
        )
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL: http://collector.example:4318"
        )
    try:
        from app.ops.spans import Tracing
    except ImportError:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but what traces is not installed: "
            "pip install 'scopegate[otel]', or unset it"
        ) from None
    return Tracing()


def _first_of(names: tuple[str, ...]) -> str:
    return next(filter(None, map(_variable, names)), "")


def _variable(name: str) -> str:
    """What is empty counts as not set, as OpenTelemetry has it."""
    return os.environ.get(name, "").strip()
