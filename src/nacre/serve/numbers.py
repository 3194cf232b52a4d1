"""Numbers that are asked for when somebody looks: what runs, what waits, what stands where."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nacre.serve.knowledge.retrieval import STATES
from nacre.serve.service import Service


def measure(service: Service) -> None:
    """Have the service's metrics tell them."""
    gauge = service.metrics.gauge
    gauge("requests_running", "requests under way, streams included", lambda: service.crowd.running)
    gauge("requests_waiting", "requests accepted by the engine and not begun", lambda: service.engine.waiting)
    if service.memory is not None:
        writer = service.memory.writer
        gauge("interactions_dropped", "answers that were not kept: not in time, or not clean", lambda: writer.dropped)
        gauge("unclean", "answers and opinions no step could clean; not kept", lambda: writer.redactor.refused)
    if service.shadow is not None:
        shadow = service.shadow
        gauge("shadow_waiting", "requests that wait for the shadow", lambda: shadow.waiting)
    service.metrics.collect(_OfTheMoment(service))


class _OfTheMoment(Collector):
    """What has labels that come and go: slots, and keys."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """A family each."""
        live = self._service.live()
        slots = GaugeMetricFamily("nacre_slot_version", "the version that answers in a slot", labels=["slot"])
        for slot, target in live.slots.items():
            slots.add_metric([slot], target.version)
        refused = GaugeMetricFamily("nacre_slot_refused", "1 where a slot's version cannot be served", labels=["slot"])
        for slot in self._service.troubles():
            refused.add_metric([slot], 1)
        canary = GaugeMetricFamily("nacre_canary_percent", "share of the users that the new version answers")
        canary.add_metric([], live.rollout.weight if live.rollout else 0.0)
        return [slots, refused, canary, *self._removed(), *self._knowledge()]

    def _knowledge(self) -> Iterable[Metric]:
        """What chats were given of the documents, where there are any."""
        retrieval = self._service.knowledge
        if retrieval is None or not retrieval.in_use:
            return ()
        counts = CounterMetricFamily("nacre_knowledge", "chats by what the documents gave", labels=["result"])
        for state in STATES:
            counts.add_metric([state], retrieval.counts[state])
        present = GaugeMetricFamily("nacre_knowledge_snapshot", "number of the snapshot that was searched last")
        present.add_metric([], retrieval.snapshot or 0)
        return counts, present

    def _removed(self) -> Iterable[Metric]:
        """What was taken out of texts before they were written."""
        if self._service.memory is None:
            return ()
        removed = CounterMetricFamily("nacre_removed", "private texts taken out of what is kept", labels=["kind"])
        for kind, count in dict(self._service.memory.writer.redactor.removed).items():
            removed.add_metric([kind], count)
        return (removed,)
