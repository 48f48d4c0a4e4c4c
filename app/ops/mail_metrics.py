"""Metrics of mail."""

import math
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.runtime import Runtime


class MailMetrics(Collector):
    """What waits in the outbox, as the last look found it, and what this process sent."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        counts = self._runtime.mailer.counts
        yield GaugeMetricFamily(
            "scopegate_mail_waiting",
            "Mails that wait to be sent, or are being sent.",
            math.nan if counts.waiting is None else counts.waiting,
        )
        oldest = counts.oldest
        yield GaugeMetricFamily(
            "scopegate_mail_oldest_seconds",
            "How long the oldest of these has waited.",
            (self._runtime.now() - oldest).total_seconds() if oldest else 0,
        )
        yield CounterMetricFamily(
            "scopegate_mail_sent", "Mails that the server took from this process.", counts.sent
        )
        yield CounterMetricFamily(
            "scopegate_mail_failed",
            "Mails that this process gave up: refused, tried for a day, or over the hourly limit.",
            counts.failed,
        )
