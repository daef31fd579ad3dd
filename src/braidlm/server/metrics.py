"""Figures for Prometheus."""

import functools
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from ..engine import Engine, Usage
from .stream_chunks import Answer

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counts of one server, and the state of its engine."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("braidlm_requests", "Requests answered.", ("path", "status"), registry=self.registry)
        self._prompt = Counter(
            "braidlm_prompt_tokens",
            "Tokens of prompts: their state was kept (cached), they were run again (recomputed), or new (computed).",
            ("kind",),
            registry=self.registry,
        )
        self._written = Counter("braidlm_generated_tokens", "Tokens written.", registry=self.registry)
        self._first = Histogram(
            "braidlm_time_to_first_token_seconds", "From a request to its first token.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._each = Histogram(
            "braidlm_time_per_token_seconds", "Mean time between the tokens of one text.",
            buckets=_TOKEN_SECONDS, registry=self.registry,
        )  # fmt: skip

    def watch(self, engine: Engine) -> None:
        """Tells of an engine from now on."""
        gauges = {
            "waiting": "Requests in the queue.",
            "reading": "Requests whose prompts are being read.",
            "writing": "Requests whose texts are being written.",
            "state_bytes": "Bytes promised to the states of running requests.",
            "cache_bytes": "Bytes of states kept for later.",
            "cache_states": "States kept for later.",
            "guessed": "Tokens that were guessed from what a text repeats.",
            "guessed_right": "Guessed tokens that came true.",
        }
        for name, text in gauges.items():
            gauge = Gauge(f"braidlm_engine_{name}", text, registry=self.registry)
            gauge.set_function(functools.partial(_load, engine, name))

    def request(self, path: str, status: int) -> None:
        """One more request was answered."""
        self._requests.labels(path, str(status)).inc()

    def read(self, usages: Sequence[Usage]) -> None:
        """Prompts were read."""
        for kind in ("cached", "recomputed", "computed"):
            self._prompt.labels(kind).inc(sum(getattr(usage, kind) for usage in usages))

    def wrote(self, answer: Answer) -> None:
        """An answer has come to its end."""
        self._written.inc(sum(map(len, answer.made)))
        if answer.first is not None:
            self._first.observe(answer.first)
            longest = max(map(len, answer.made))
            if longest > 1:
                self._each.observe((answer.seconds - answer.first) / (longest - 1))

    def collect(self) -> list[Metric]:
        """All figures, as they are now."""
        return list(self.registry.collect())

    def text(self) -> bytes:
        """All figures in Prometheus' format."""
        return generate_latest(self.registry)


def _load(engine: Engine, name: str) -> float:
    return float(getattr(engine.load, name))


class _Collected(Collector):
    """Figures that were collected before."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged(own: Iterable[Metric], replicas: Mapping[str, Iterable[Metric]]) -> bytes:
    """Figures of several processes in Prometheus' format: each replica's have its name as a label."""
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
