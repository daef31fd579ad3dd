"""Definition of a family: a published format, whose config and tensor names become a spec and weights, and back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor

from ..errors import SpecError, warn_loading
from ..spec import Attention, Hyena, Mamba, Mamba2, Mlp, ModelSpec, Parallel
from .config import Config
from .names import NameRule

Mixer = TypeVar("Mixer", Attention, Hyena, Mamba, Mamba2, Parallel)


def first_mixer(spec: ModelSpec, kind: type[Mixer]) -> Mixer:
    """First mixer of a kind; `SpecError` if there is none."""
    for block in spec.blocks:
        if isinstance(block.mixer, kind):
            return block.mixer
    raise SpecError(f"there is no {kind.__name__} block")


def first_mlp(spec: ModelSpec) -> Mlp:
    """Feed-forward layer of the first block; `SpecError` if it is not a gated MLP."""
    ffn = spec.blocks[0].ffn
    if not isinstance(ffn, Mlp):
        raise SpecError("the blocks must have a gated feed-forward each")
    return ffn


def gguf_outer_metadata(spec: ModelSpec) -> dict[str, Any]:
    """Sizes that every GGUF file gives; a length where none is declared is the converters' 2^20."""
    return {
        "vocab_size": spec.vocab,
        "embedding_length": spec.width,
        "block_count": len(spec.blocks),
        "context_length": spec.max_positions or 1 << 20,
        "attention.layer_norm_rms_epsilon": spec.norm.eps,
    }


class TensorTable(Protocol):
    """Named tensors of a file, whose shapes are known without reading them."""

    shapes: dict[str, tuple[int, ...]]

    def get(self, name: str) -> Tensor:
        """One tensor."""
        ...


@dataclass(frozen=True, kw_only=True)
class Gguf:
    """Layout of a family in GGUF files of one architecture.

    `matches` tells families apart that share an architecture, by the metadata without the architecture's prefix.
    `config` turns that metadata and what the tensors tell into the published config; `names` are rules for GGUF
    tensor names. `metadata` is the way back: the keys for a description; `tensors` are those that hold a part of it.
    """

    arch: str
    config: Callable[[Mapping[str, Any], TensorTable], dict[str, Any]]
    names: Callable[[ModelSpec], Sequence[NameRule]]
    metadata: Callable[[ModelSpec], dict[str, Any]]
    tensors: Callable[[ModelSpec], dict[str, Tensor]] = lambda spec: {}
    matches: Callable[[Mapping[str, Any]], bool] = lambda fields: True


@dataclass(frozen=True, kw_only=True)
class Family:
    """Family: a published format, whose config keys and tensor names become a spec and weights, and back.

    `ignored` are config keys that do not matter here; `matches` recognises configs without a
    model_type. `renamed` are ends of tensor names that transformers changes in memory.
    """

    name: str
    model_types: tuple[str, ...]
    spec: Callable[[Config], ModelSpec]
    config: Callable[[ModelSpec], dict[str, Any]]
    names: Callable[[ModelSpec], Sequence[NameRule]]
    ignored: frozenset[str] = frozenset()
    matches: Callable[[Mapping[str, Any]], bool] | None = None
    weights_file: str = "model.safetensors"
    gguf: Gguf | None = field(default=None)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, config: Mapping[str, Any]) -> bool:
        """Whether `config` is of this format."""
        if self.matches is not None:
            return self.matches(config)
        return config.get("model_type") in self.model_types

    def in_memory(self, name: str) -> str:
        """Name that transformers gives a tensor of the file once it is loaded."""
        for source, other in self.renamed.items():
            if name.endswith(source):
                return name.removesuffix(source) + other
        return name

    def read(self, config: Mapping[str, Any]) -> ModelSpec:
        """Reads the spec of a published config, every key of which was understood or is known not to matter.

        Unusual keys without effect are named in a `LoadingWarning`.
        """
        spec, warning = self._read(config)
        if warning is not None:
            warn_loading(warning)
        return spec

    def _read(self, config: Mapping[str, Any]) -> tuple[ModelSpec, str | None]:
        view = Config(config, self.name)
        try:
            spec = self.spec(view)
        except SpecError:
            raise
        except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError, IndexError) as error:
            # A value of a kind that no published config has: a list where a table belongs, say.
            raise SpecError(f"the config of this {self.name} model has a value of the wrong kind: {error}") from None
        return spec, view.finish(self.ignored)

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        """Writes the published config of `spec`; `SpecError` if this format cannot express it."""
        try:
            config = self.config(spec)
            again, _ = self._read(config)
        except SpecError as error:
            raise SpecError(f"this model cannot be written as {self.name}: {error}; save it as braidlm") from None
        if again != spec:
            raise SpecError(
                f"this model cannot be written as {self.name}: {_difference(again, spec)}; save it as braidlm"
            )
        return config


def _difference(expressed: ModelSpec, wanted: ModelSpec) -> str:
    for index, (found, asked) in enumerate(zip(expressed.blocks, wanted.blocks, strict=False)):
        if found != asked:
            return f"it has no way to say that block {index} is {asked}"
    return "it has no way to say its embedding, norm or head settings"
