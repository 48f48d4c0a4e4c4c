"""Metrics of a serving process, in Prometheus' format.

The code that is measured counts in plain numbers and knows nothing of Prometheus; they are read
here at each scrape. Requests are counted here too.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.audit.actions import Action
from app.db.servers import ServerReplaced
from app.ops.logging import log_output
from app.ops.mail_metrics import MailMetrics
from app.runtime import Runtime
from app.tokens.keyring import NoSigningKey

OTHER = "other"
"""The label in place of a route, for requests that no API route takes: pages, unknown paths."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
"""Other methods count as OTHER, because a client may invent any number of them."""
FRAMES = ("hello", "set", "beat", "everything", "bye")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Requests(Collector):
    """Counts what was answered, and how long it took."""

    def __init__(self) -> None:
        # Plain lists, as Prometheus' own histogram takes several times as long.
        self._buckets: dict[tuple[str, str | None, int], list[int]] = {}
        self._seconds: dict[tuple[str, str | None, int], float] = {}

    def count(self, *, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count one request by its route, never by its path: there is no limit to paths."""
        kind = (method if method in METHODS else OTHER, route, status)
        if kind not in self._buckets:
            self._buckets[kind], self._seconds[kind] = [0] * (len(BUCKETS) + 1), 0.0
        self._buckets[kind][bisect_left(BUCKETS, seconds)] += 1
        self._seconds[kind] += seconds

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        durations = HistogramMetricFamily(
            "scopegate_request_duration_seconds",
            "Requests, from their head to the end of the answer.",
            labels=["method", "route", "status"],
        )
        for (method, route, status), buckets in self._buckets.items():
            bounds = [*map(str, BUCKETS), "+Inf"]
            durations.add_metric(
                [method, route or OTHER, str(status)],
                list(zip(bounds, accumulate(buckets), strict=True)),
                self._seconds[method, route, status],
            )
        yield durations


def render_metrics(runtime: Runtime, requests: Requests, worker: int | None = None) -> bytes:
    """Return all metrics of this process, as they are now; of several workers, with its number."""
    registry = CollectorRegistry()
    collectors = (Enforcement, EventStreams, Logins, MailMetrics, ResourceMetrics)
    for collector in (requests, *(each(runtime) for each in collectors)):
        registry.register(Labelled(collector, {} if worker is None else {"worker": str(worker)}))
    return generate_latest(registry)


def merge_metrics(rendered: Sequence[bytes]) -> bytes:
    """Merge the metrics of several processes: all samples of one name must stand together."""
    families: dict[bytes, list[bytes]] = {}
    for text in rendered:
        for family in text.split(b"# HELP ")[1:]:
            about, kind, samples = family.split(b"\n", 2)
            families.setdefault(b"# HELP %b\n%b\n" % (about, kind), []).append(samples)
    return b"".join(head + b"".join(samples) for head, samples in families.items())


class Labelled(Collector):
    """The same metrics, each with these labels too."""

    def __init__(self, collector: Collector, labels: dict[str, str]) -> None:
        self._collector = collector
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        for metric in self._collector.collect():
            metric.samples = [
                sample._replace(labels=self._labels | sample.labels) for sample in metric.samples
            ]
            yield metric


class Enforcement(Collector):
    """How requests are checked: from memory or by the database, and how well changes are heard."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        yield from self._cached()
        yield from self._feed()

    def _cached(self) -> Iterator[Metric]:
        counts = self._runtime.principals.counts
        lookups = CounterMetricFamily(
            "scopegate_principal_lookups",
            "Good tokens, by how their principal was found: remembered, loaded to be remembered, "
            "or asked of the database because nothing that is remembered may be trusted.",
            labels=["found"],
        )
        lookups.add_metric(["remembered"], counts.hits)
        lookups.add_metric(["loaded"], counts.misses)
        lookups.add_metric(["asked"], counts.bypassed)
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

    def _feed(self) -> Iterator[Metric]:
        feed = self._runtime.feed
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
        yield GaugeMetricFamily(
            "scopegate_feed_triggers_wrong",
            "Triggers that should notify of changes and are missing, off or altered.",
            len(feed.triggers.wrong) if feed.triggers else math.nan,
        )
        yield GaugeMetricFamily(
            "scopegate_notification_queue_usage",
            "How full Postgres' queue of notifications is, from 0 to 1, at the last heartbeat.",
            feed.queue_usage,
        )
        yield GaugeMetricFamily(
            "scopegate_database_went_back",
            "1 while the only server that takes writes lacks what a newer timeline had.",
            isinstance(feed.failure, ServerReplaced),
        )


class EventStreams(Collector):
    """The streams by which other services follow what happens."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        streams = self._runtime.streams
        yield GaugeMetricFamily("scopegate_event_streams_open", "Open event streams.", len(streams))
        yield GaugeMetricFamily(
            "scopegate_event_streams_limit",
            "Event streams that may be open; past it they are refused.",
            self._runtime.settings.max_streams,
        )
        sent = CounterMetricFamily(
            "scopegate_event_frames", "Frames sent on event streams.", labels=["frame"]
        )
        for name in FRAMES:
            sent.add_metric([name], streams.sent[name])
        yield sent
        yield CounterMetricFamily(
            "scopegate_event_overflows",
            "Times that an event stream was too far behind and was told to forget everything.",
            streams.overflows,
        )
        yield GaugeMetricFamily(
            "scopegate_event_lag_seconds",
            "For how long the oldest event has been heard that some stream has yet to send.",
            streams.lag,
        )


class Logins(Collector):
    """Logins by outcome, audit entries, and the hashing queue."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        audited, hasher = self._runtime.database.audited, self._runtime.hasher
        logins = CounterMetricFamily(
            "scopegate_logins",
            "Attempts by a password or a client secret: succeeded, failed, throttled (refused "
            "unchecked, 429), or overloaded (too many waited to be hashed, 503).",
            labels=["outcome"],
        )
        logins.add_metric(["succeeded"], audited["login.succeeded"])
        throttle = self._runtime.throttle
        # Some failures of clients are only counted, and have no entry.
        logins.add_metric(["failed"], audited["login.failed"] + throttle.entries.left_out)
        logins.add_metric(["throttled"], throttle.refused)
        logins.add_metric(["overloaded"], hasher.refused)
        yield logins
        entries = CounterMetricFamily(
            "scopegate_audit_entries", "Entries of the audit log.", labels=["action"]
        )
        for action in get_args(Action):
            entries.add_metric([action], audited[action])
        yield entries
        yield GaugeMetricFamily(
            "scopegate_hash_queue_depth", "Logins that wait for a hashing thread.", hasher.waiting
        )
        yield GaugeMetricFamily(
            "scopegate_hash_queue_limit",
            "Logins that may wait; past it they are refused.",
            self._runtime.settings.hash_queue,
        )
        yield SummaryMetricFamily(
            "scopegate_hash_wait_seconds",
            "How long logins have waited for a hashing thread.",
            count_value=hasher.begun,
            sum_value=hasher.waited,
        )


class ResourceMetrics(Collector):
    """What a process works with: its connections to the database, its log, its signing key."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client asks for them."""
        yield GaugeMetricFamily(
            "scopegate_database_connections_used",
            "Connections of the pool that are in use.",
            self._runtime.pool.checkedout(),
        )
        yield GaugeMetricFamily(
            "scopegate_database_connections_limit",
            "Connections that the pool may have.",
            self._runtime.pool.size(),
        )
        output = log_output()
        yield CounterMetricFamily(
            "scopegate_log_lines_dropped",
            "Lines of the log that were dropped, because stdout took no more.",
            output.dropped if output else 0,
        )
        now = self._runtime.now()
        try:
            key = self._runtime.keyring.signing(now)
        except NoSigningKey:
            return
        yield GaugeMetricFamily(
            "scopegate_signing_key_age_seconds",
            "For how long the key that signs has been doing so.",
            (now - key.signs_from).total_seconds(),
        )
