"""Prometheus metrics of a server."""

import functools
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from ..engine import Engine, Usage
from .stream_chunks import Answer

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Metrics of one server and of its engine."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("braidlm_requests", "Requests answered.", ("path", "status"), registry=self.registry)
        self._prompt = Counter(
            "braidlm_prompt_tokens",
            "Prompt tokens: covered by a snapshot (cached), seen before but run again (recomputed), or new (computed).",
            ("kind",),
            registry=self.registry,
        )
        self._generated = Counter("braidlm_generated_tokens", "Generated tokens.", registry=self.registry)
        self._first = Histogram(
            "braidlm_time_to_first_token_seconds", "Time from a request to its first token.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._each = Histogram(
            "braidlm_time_per_token_seconds", "Mean time between the tokens of one sequence.",
            buckets=_TOKEN_SECONDS, registry=self.registry,
        )  # fmt: skip

    def watch(self, engine: Engine) -> None:
        """Adds the load of an engine."""
        gauges = {
            "waiting": "Requests in the queue.",
            "prefill": "Requests in prefill.",
            "decode": "Requests in decode.",
            "state_bytes": "Bytes promised to the states of running requests.",
            "cache_bytes": "Bytes of snapshots in the prefix cache.",
            "cache_snapshots": "Snapshots in the prefix cache.",
            "draft_tokens": "Draft tokens of speculative decoding that were run.",
            "accepted_tokens": "Draft tokens that were accepted.",
        }
        for name, text in gauges.items():
            gauge = Gauge(f"braidlm_engine_{name}", text, registry=self.registry)
            gauge.set_function(functools.partial(_stat, engine, name))

    def count_request(self, path: str, status: int) -> None:
        """Counts one answered request."""
        self._requests.labels(path, str(status)).inc()

    def count_prompts(self, usages: Sequence[Usage]) -> None:
        """Counts the tokens of prompts."""
        for kind in ("cached", "recomputed", "computed"):
            self._prompt.labels(kind).inc(sum(getattr(usage, kind) for usage in usages))

    def count_answer(self, answer: Answer) -> None:
        """Counts the tokens of an answer that has ended, and observes its times."""
        self._generated.inc(sum(map(len, answer.made)))
        if answer.first is not None:
            self._first.observe(answer.first)
            longest = max(map(len, answer.made))
            if longest > 1:
                self._each.observe((answer.seconds - answer.first) / (longest - 1))

    def collect(self) -> list[Metric]:
        """All metrics with their current values."""
        return list(self.registry.collect())

    def text(self) -> bytes:
        """All metrics in Prometheus' format."""
        return generate_latest(self.registry)


def _stat(engine: Engine, name: str) -> float:
    return float(getattr(engine.stats, name))


class _Collected(Collector):
    """Collector of metrics that were collected before."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged(own: Iterable[Metric], replicas: Mapping[str, Iterable[Metric]]) -> bytes:
    """Metrics of several processes in Prometheus' format: each replica's have its name as a label."""
    families: dict[str, Metric] = {}
    for name, found in [("", own), *replicas.items()]:
        for family in found:
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                labels = {**sample.labels, **({"replica": name} if name else {})}
                whole.samples.append(sample._replace(labels=labels))
    registry = CollectorRegistry()
    registry.register(_Collected(families.values()))
    return generate_latest(registry)
