"""Numbers for Prometheus. Labels are taken from short lists of our own, never from what a client sent."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_MOST_LABELS = 200  # values of one label; what comes beyond counts as `other`


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seen: dict[str, set[str]] = {}
        self._of_answers: dict[tuple[str, int, str], tuple[Counter, Histogram, Counter, Counter]] = {}
        self._of_requests: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.requests = self._counter("requests", "requests by route and status", "route", "status")
        self.seconds = self._histogram("request_seconds", "seconds until the last byte", "route")
        self.answers = self._counter("answers", "answers by arm, version and finish", "arm", "version", "finish")
        self.answer_seconds = self._histogram("answer_seconds", "seconds until the last token", "arm")
        self.tokens = self._counter("tokens", "tokens read and written, by arm", "kind", "arm")
        self.shadow_dropped = self._counter("shadow_dropped", "requests the shadow was not asked, by reason", "why")
        for why in ("full", "overloaded", "stale"):
            self.shadow_dropped.labels(why)

    def answer(self, arm: str, version: int, finish: str, seconds: float, tokens: tuple[int, int]) -> None:
        """Count an answer; `tokens` are those read and those written."""
        found = self._of_answers.get((arm, version, finish))
        if found is None:  # looking a child up by its labels costs more than counting
            found = self._of_answers[arm, version, finish] = (
                self.answers.labels(arm, self.bounded("version", str(version)), finish),
                self.answer_seconds.labels(arm),
                self.tokens.labels("read", arm),
                self.tokens.labels("written", arm),
            )
        count, latency, read, written = found
        count.inc()
        latency.observe(seconds)
        read.inc(tokens[0])
        written.inc(tokens[1])

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request of one of our routes."""
        found = self._of_requests.get((route, status))
        if found is None:
            found = self._of_requests[route, status] = (
                self.requests.labels(route, str(status)),
                self.seconds.labels(route),
            )
        found[0].inc()
        found[1].observe(seconds)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A number that is asked for when somebody looks."""
        Gauge(name, what, registry=self.registry, namespace="nacre").set_function(value)

    def collect(self, collector: Collector) -> None:
        """Numbers that have labels of the moment, as the slots have."""
        self.registry.register(collector)

    def bounded(self, label: str, value: str) -> str:
        """The value, or `other` where there have been too many: a label's values must not grow without end."""
        seen = self._seen.setdefault(label, set())
        if value not in seen:
            if len(seen) >= _MOST_LABELS:
                return "other"
            seen.add(value)
        return value

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, namespace="nacre", registry=self.registry)

    def _histogram(self, name: str, what: str, *labels: str) -> Histogram:
        return Histogram(name, what, labels, namespace="nacre", registry=self.registry, buckets=_SECONDS)
