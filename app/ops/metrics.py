"""Metrics: what a serving process tells of itself, in Prometheus' format.

The code that is measured counts in plain integers and knows nothing of Prometheus; they are read
here when somebody scrapes.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.runtime import Runtime


def render_metrics(runtime: Runtime) -> bytes:
    """All metrics of this process, as they are at this moment."""
    registry = CollectorRegistry()
    registry.register(Enforcement(runtime))
    registry.register(Logins(runtime))
    return generate_latest(registry)


class Enforcement(Collector):
    """How requests are checked: from memory or by the database, and how well changes are heard."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        counts, feed = self._runtime.principals.counts, self._runtime.feed
        lookups = CounterMetricFamily(
            "scopegate_principal_lookups",
            "Good tokens, by how their principal was found: remembered, loaded to be remembered, "
            "or asked of the database because nothing that is remembered may be trusted.",
            labels=["found"],
        )
        lookups.add_metric(["remembered"], counts.hits)
        lookups.add_metric(["loaded"], counts.misses)
        lookups.add_metric(["asked"], counts.unvouched)
        yield lookups
        yield CounterMetricFamily(
            "scopegate_principals_forgotten",
            "Remembered principals that were forgotten because a change was heard.",
            counts.forgotten,
        )
        yield GaugeMetricFamily(
            "scopegate_principals_remembered",
            "Sessions whose principal is remembered.",
            len(self._runtime.principals),
        )
        yield GaugeMetricFamily(
            "scopegate_tokens_remembered",
            "Access tokens whose claims are remembered.",
            len(self._runtime.access_tokens),
        )
        yield CounterMetricFamily(
            "scopegate_changes_heard", "Changes heard from the database.", feed.changes_heard
        )
        yield GaugeMetricFamily(
            "scopegate_feed_fresh",
            "1 while the change feed is trusted, 0 while every request asks the database.",
            feed.fresh(),
        )
        yield GaugeMetricFamily(
            "scopegate_feed_lag_seconds",
            "From sending the last heartbeat through the database to hearing it.",
            feed.lag,
        )


class Logins(Collector):
    """How logins are let in."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        yield CounterMetricFamily(
            "scopegate_logins_throttled",
            "Attempts by a password or a client secret that were refused unchecked (429).",
            self._runtime.throttle.refused,
        )
        yield GaugeMetricFamily(
            "scopegate_hash_queue_depth",
            "Logins and password changes that wait for a hashing thread.",
            self._runtime.hasher.waiting,
        )
