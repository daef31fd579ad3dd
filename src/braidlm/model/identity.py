"""Version, fingerprint and identity of a model's weights: what tells states and plans of old weights from new ones.

A version is a number that costs microseconds and says that something has changed; a fingerprint is a digest of every
bit, and is the same for the same weights in another process.
"""

import json
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from ..state.sequence import Identity, Precision
from ..system.digest import digest, sampled

if TYPE_CHECKING:
    from .model import Model

Value = TypeVar("Value")


@dataclass
class VersionRecord:
    """Record of a model's weights at their last version; plain data, copied with the model.

    unseen: number of changes that torch did not count. sampled: a version, and the digest of some elements at it.
    base_fingerprint: a version of the weights without adapters, and their fingerprint. cached: values by key, each
    with the version of the weights that it was made from.
    """

    unseen: int = 0
    sampled: tuple[int, int] | None = None
    base_fingerprint: tuple[int, str] | None = None
    cached: dict[Hashable, tuple[int, Any]] = field(default_factory=dict)

    def shared(self) -> "VersionRecord":
        """Record for a second model over the same weights, which may be given adapters of its own."""
        return VersionRecord(self.unseen, self.sampled, self.base_fingerprint)


class Weights:
    """Weights of a model as a whole: their version, their fingerprint, and what was made from them."""

    def __init__(self, model: "Model", record: VersionRecord) -> None:
        """A view of `model`; `record` is the model's own, and keeps what is known between two views."""
        self._model = model
        self._record = record

    def version(self) -> int:
        """Version of the weights: a number that changes when any of them is changed in place or replaced.

        Changes through `.data` or through an array over a weight's memory are not counted by torch: see `notice_edits`.
        """
        return self._version_of(held_weights(self._model))

    def cached(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Value that `make` makes from the weights: the one that was made before, unless they have changed since."""
        version = self.version()
        known = self._record.cached.get(key)
        if known is None or known[0] != version:
            known = self._record.cached[key] = (version, make())
        return known[1]

    def notice_edits(self) -> None:
        """Detects edits of weights that torch does not count, by comparing some elements with those of the last call.

        Called where new states begin and whenever an engine begins to work again. It sees what changes a whole weight,
        or a good part of one. A few rows may escape it; after such a change call
        `torch.autograd.graph.increment_version(weight)`, or change weights under `torch.no_grad()` and not through
        `.data`, which every way of running notices.
        """
        version, values = self.version(), sampled(held_weights(self._model))
        before = self._record.sampled
        if before is not None and before[0] == version and before[1] != values:
            self._record.unseen += 1
            version = self.version()
        self._record.sampled = (version, values)

    def fingerprint(self) -> str:
        """Digest of the spec, of every weight and of the adapters that are attached; states carry it."""
        return self.cached("fingerprint", self._fingerprint)

    def base_fingerprint(self) -> str:
        """Digest of the spec and of every weight, whatever adapters are attached."""
        version, known = self._base_version(), self._record.base_fingerprint
        if known is None or known[0] != version:
            self._record.sampled = (self.version(), sampled(held_weights(self._model)))
            known = (version, digest(self._spec_json(), self._model.named_weights()))
            self._record.base_fingerprint = known
        return known[1]

    def spec_digest(self) -> str:
        """Digest of the spec alone."""
        return digest(self._spec_json(), ())

    def identity(self, kv_dtype: str | None = None) -> Identity:
        """Identity of the states that the model computes, with keys and values stored as `kv_dtype`."""
        precision = Precision.of(self._model.dtype, kv_dtype)
        return Identity(self.fingerprint(), precision.name, precision.kv, self._model.label)

    @contextmanager
    def keep_fingerprint(self) -> Iterator[None]:
        """Context in which weights may move in memory without changing: what is known of them stays known."""
        plain, before, record = self._base_version(), self.version(), self._record
        yield
        after = self.version()
        if record.base_fingerprint is not None and record.base_fingerprint[0] == plain:
            record.base_fingerprint = (self._base_version(), record.base_fingerprint[1])
        if record.sampled is not None and record.sampled[0] == before:
            record.sampled = (after, record.sampled[1])
        for key, (version, value) in record.cached.items():
            if version == before:
                record.cached[key] = (after, value)

    def _version_of(self, weights: list[Tensor]) -> int:
        return hash((self._record.unseen, *((id(w), w.data_ptr(), w._version) for w in weights)))

    def _base_version(self) -> int:
        return self._version_of([weight for _, weight in self._model.named_weights()])

    def _fingerprint(self) -> str:
        base, adapters = self.base_fingerprint(), list(self._model.named_adapters())
        parts = ((f"{name}.{part}", held) for name, a in adapters for part, held in a.state_dict().items())
        header = " ".join([base, *(repr(adapter) for _, adapter in adapters)])
        return digest(header, parts) if adapters else base

    def _spec_json(self) -> str:
        return json.dumps(self._model.spec.to_json(), sort_keys=True)


def held_weights(model: nn.Module) -> list[Tensor]:
    """Weights as a list: every parameter and buffer, parts of quantized weights too."""
    # torch's own iterators take twice as long, and this runs at every call.
    found: list[Tensor] = []
    modules: list[nn.Module] = [model]
    while modules:
        module = modules.pop()
        for held in (module._parameters, module._buffers):
            found.extend(weight for weight in held.values() if weight is not None)
        modules.extend(child for child in module._modules.values() if child is not None)
    return found
