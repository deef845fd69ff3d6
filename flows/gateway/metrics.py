"""What the gateway counts, in Prometheus' format; one registry per gateway, so that several live in one process."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.adapters.flags import Slot
from flows.gateway.contract import GatewayState

LATENCY_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """Counters that requests increase, and figures that are read when somebody scrapes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "lull_gateway_rows", "Rows by slot, model version and status", ["slot", "version", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._latency = Histogram(
            "lull_gateway_latency_seconds", "From the arrival of a score request to its answer",
            buckets=LATENCY_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.observe_latency_s = self._latency.observe
        self._bound: dict[tuple[str, str, int], Counter] = {}

    def count(self, slot: Slot | str, version: str, status: int, n: int = 1) -> None:
        """Count rows answered with this status; slot and version are empty when no model was asked."""
        key = (slot, version, status)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._requests.labels(slot, version, str(status))
        bound.inc(n)

    def text(self, state: GatewayState, n_reading: int, n_waiting: int) -> bytes:
        """Return the page that Prometheus scrapes."""
        return generate_latest(self.registry) + generate_latest(_Once(_figures(state, n_reading, n_waiting)))


class _Once(CollectorRegistry, Collector):
    """A registry of figures that were taken a moment ago."""

    def __init__(self, figures: Iterator[Metric]) -> None:
        super().__init__()
        self._figures = list(figures)
        self.register(self)

    def collect(self) -> Iterator[Metric]:
        yield from self._figures


def _figures(state: GatewayState, n_reading: int, n_waiting: int) -> Iterator[Metric]:
    gauges = {
        "lull_gateway_reading": ("Requests whose body is arriving", n_reading),
        "lull_gateway_waiting": ("Requests read and not answered", n_waiting),
    }
    for name, (text, value) in gauges.items():
        yield GaugeMetricFamily(name, text, value=value)
    counters = {
        "lull_gateway_shed": ("Requests turned away with 429 or 503", state.n_shed),
        "lull_gateway_refused": ("Requests that made no sense, answered with 4xx", state.n_refused),
        "lull_gateway_fallbacks": ("Requests whose slot was not warm and that another answered", state.n_fallback),
        "lull_gateway_log_rows": ("Rows taken for the request log", state.n_log_rows),
        "lull_gateway_log_rows_dropped": ("Rows that the request log lost", state.n_log_rows_dropped),
        "lull_gateway_outcomes": ("Late labels received", state.n_outcomes),
    }
    for name, (text, value) in counters.items():
        yield CounterMetricFamily(name, text, value=value)
    slots = GaugeMetricFamily("lull_gateway_slot_info", "What is in a slot", labels=["slot", "version", "digest"])
    warm = GaugeMetricFamily("lull_gateway_slot_warm", "1 if the slot may take traffic", labels=["slot"])
    share = GaugeMetricFamily("lull_gateway_slot_share", "Ratio of entities that the slot answers", labels=["slot"])
    for slot, view in state.slots.items():
        slots.add_metric([slot, view.version or "", view.digest or ""], 1.0)
        warm.add_metric([slot], float(view.is_warm))
        share.add_metric([slot], state.split.get(slot, 0.0))
    yield from (slots, warm, share)
