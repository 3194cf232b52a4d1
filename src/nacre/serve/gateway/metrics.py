"""Numbers for Prometheus. Labels are taken from short lists of our own, never from what a client sent."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BOUNDS = (*(str(float(bound)) for bound in _SECONDS), "+Inf")
_MOST_LABELS = 200  # values of one label; what comes beyond counts as `other`


class _Times:
    """How often something took how long: plain numbers, because they are counted twice a request."""

    __slots__ = ("_counts", "_total_s")

    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self._total_s = 0.0

    def add(self, seconds: float) -> None:
        """Once more."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._total_s += seconds

    def told(self, family: HistogramMetricFamily, label: str) -> None:
        """As Prometheus has it: how many took at most so long."""
        family.add_metric([label], list(zip(_BOUNDS, accumulate(self._counts), strict=True)), self._total_s)


class Metrics:
    """The numbers of one server, in a registry of its own. Counted from the event loop's thread alone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seen: dict[str, set[str]] = {}
        self._requests: dict[tuple[str, int], int] = {}
        self._request_times: dict[str, _Times] = {}
        self._answers: dict[tuple[str, str, str], int] = {}
        self._answer_times: dict[str, _Times] = {}
        self._tokens: dict[str, tuple[int, int]] = {}
        self.shadow_dropped = Counter(
            "shadow_dropped",
            "requests the shadow was not asked, by reason",
            ["why"],
            namespace="nacre",
            registry=self.registry,
        )
        for why in ("full", "overloaded", "stale"):
            self.shadow_dropped.labels(why)
        self.registry.register(_Counted(self._families))

    def answer(self, arm: str, version: int, finish: str, seconds: float, tokens: tuple[int, int]) -> None:
        """Count an answer; `tokens` are those read and those written."""
        kind = arm, self.bounded("version", str(version)), finish
        self._answers[kind] = self._answers.get(kind, 0) + 1
        self._add_time(self._answer_times, arm, seconds)
        read, written = self._tokens.get(arm, (0, 0))
        self._tokens[arm] = read + tokens[0], written + tokens[1]

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request of one of our routes."""
        kind = route, status
        self._requests[kind] = self._requests.get(kind, 0) + 1
        self._add_time(self._request_times, route, seconds)

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

    def _families(self) -> Iterable[Metric]:
        requests = CounterMetricFamily("nacre_requests", "requests by route and status", labels=["route", "status"])
        for (route, status), count in self._requests.items():
            requests.add_metric([route, str(status)], count)
        answers = CounterMetricFamily(
            "nacre_answers", "answers by arm, version and finish", labels=["arm", "version", "finish"]
        )
        for labels, count in self._answers.items():
            answers.add_metric(labels, count)
        tokens = CounterMetricFamily("nacre_tokens", "tokens read and written, by arm", labels=["kind", "arm"])
        for arm, counts in self._tokens.items():
            for kind, count in zip(("read", "written"), counts, strict=True):
                tokens.add_metric([kind, arm], count)
        seconds = HistogramMetricFamily("nacre_request_seconds", "seconds until the last byte", labels=["route"])
        for route, times in self._request_times.items():
            times.told(seconds, route)
        answer_seconds = HistogramMetricFamily("nacre_answer_seconds", "seconds until the last token", labels=["arm"])
        for arm, times in self._answer_times.items():
            times.told(answer_seconds, arm)
        return requests, seconds, answers, answer_seconds, tokens

    @staticmethod
    def _add_time(times: dict[str, _Times], label: str, seconds: float) -> None:
        found = times.get(label)
        if found is None:
            found = times[label] = _Times()
        found.add(seconds)


class _Counted(Collector):
    """Shows plain numbers when somebody looks."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """A family each."""
        return self._families()
