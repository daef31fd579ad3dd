"""Tensors of a text model among those of a file: under other prefixes, with buffers, heads and towers beside them.

Tools write the same tensor under many names: `torch.compile`, data-parallel wrappers and peft put words in front,
a base model's state dict lacks some, and a model that also sees or hears keeps its language model under a word of
its own. What is no tensor of the text model is left out by the tables below and named; all else that has no place
stays and is refused (see `checkpoint.fill`). A layer beyond the config's is never left out silently.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from ..errors import CheckpointError, named, warn_loading
from ..families import Drop, NameRule, Rule
from .binding import Source

log = logging.getLogger("braidlm.loading")

# Words in front of a name that say where the model stood, not which tensor it is.
_TEXT_TOWER = frozenset({"language_model", "text_model", "llm"})
_IN_FRONT = _TEXT_TOWER | {"model", "backbone", "base_model", "module"}
# Words that wrappers put anywhere: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

# Ends of names of buffers, which are computed anew from the config.
_BUFFER = re.compile(
    r"""(.+\.)?(
        rotary(_pos)?_emb\.(inv_freq|original_inv_freq|scale|cos_cached|sin_cached|freqs_cis)  # rotary tables
        | masked_bias | position_ids    # GPT-style constants
        | _extra_state                  # TransformerEngine's notes on its own scaling
    )""",
    re.VERBOSE,
)
# GPT-style causal masks, [1, 1, L, L]; a bias of an attention would have one dimension.
_MASK = re.compile(r"(.+\.)?(self_)?(attn|attention)\.(bias|mask)")

# First words of what other tasks add to a language model.
_BESIDE = re.compile(
    r"""(mtp|nextn)(_\w+)?             # heads and layers that predict tokens further ahead
        | medusa_heads? | eagle\w* | draft\w*   # drafting heads
        | vision\w* | visual\w* | image_\w+ | vit | siglip\w*   # eyes
        | audio\w* | speech\w* | sound\w*       # ears
        | multi_?modal_\w+ | mm_\w+ | projector | connector | embed_(vision|audio) | resampler | abstractor
        | score | classifier | classification_head | v_head | value_head | reward_head | qa_outputs | pooler
    """,
    re.VERBOSE,
)


class _Name(NamedTuple):
    """A name without the words in front of it, and whether one of those was that of a text tower."""

    bare: str
    in_tower: bool


def _bare(name: str) -> _Name:
    words, in_tower = [word for word in name.split(".") if word not in _WRAPPERS], False
    while len(words) > 1 and words[0] in _IN_FRONT:
        in_tower |= words[0] in _TEXT_TOWER
        del words[0]
    return _Name(".".join(words), in_tower)


class TextTensors:
    """Source of the text model's tensors in another `source`, by the names that `rules` have for them.

    `layers` is the model's number of blocks; `ahead` is how many layers behind them the config declares to predict
    tokens further ahead. `nested`: the file is a larger model's, whose other parts may have any name.
    """

    def __init__(
        self, source: Source, rules: Sequence[NameRule], layers: int, *, ahead: int = 0, nested: bool = False
    ) -> None:
        self._source, self._layers, self._ahead, self._nested = source, layers, ahead, nested
        self._layer = _layer_pattern(rules)
        self._dropped = {_bare(name).bare for rule in rules if isinstance(rule, Drop) for name in _names(rule, layers)}
        self._stored = self._by_known_name(rules)
        self._sort_out(source.names() - set(self._stored.values()))

    def names(self) -> set[str]:
        """Names of all tensors: known names, and those that have no place in the model."""
        return set(self._stored)

    def get(self, name: str) -> Tensor:
        """One tensor by its known name, in its stored dtype."""
        return self._source.get(self._stored[name])

    def stored_name(self, name: str) -> str:
        """Name that the file gives a tensor."""
        return self._stored[name]

    def stored_names(self) -> set[str]:
        """Names that the file gives all tensors."""
        return set(self._stored.values())

    def _by_known_name(self, rules: Sequence[NameRule]) -> dict[str, str]:
        """Stored names by known ones; a name that fits as it is goes before one that has to be changed."""
        known = {name for rule in rules if not isinstance(rule, Drop) for name in _names(rule, self._layers)}
        present = self._source.names()
        found = {name: name for name in known & present}
        wanted = {_bare(name).bare: name for name in known}
        for name in sorted(present - found.keys()):
            target = wanted.get(_bare(name).bare)
            if target is None:
                continue
            if target in found:
                raise CheckpointError(
                    f"tensors {found[target]} and {name} are both the model's {target}; keep one of them"
                )
            found[target] = name
        return found

    def _sort_out(self, others: Iterable[str]) -> None:
        """Leaves out what is known to be no part of the text model; keeps the rest by its own name."""
        buffers, beside = [], []
        for name in sorted(others):
            if self._is_beside(name):
                beside.append(name)
            elif self._is_empty_or_buffer(name):
                buffers.append(name)
            else:
                self._stored[name] = name
        if buffers:
            log.debug("left out buffers and empty tensors: %s", ", ".join(buffers))
        if beside:
            parts = named(self._grouped(beside))
            warn_loading(f"left out what is no part of the text model: {parts}")

    def _is_beside(self, name: str) -> bool:
        bare, in_tower = _bare(name)
        layer = self._layer.match(bare)
        if layer is not None:
            return self._is_ahead(name, int(layer[1][:9]))
        return _BESIDE.fullmatch(bare.partition(".")[0]) is not None or (self._nested and not in_tower)

    def _is_ahead(self, name: str, layer: int) -> bool:
        """Whether a layer is one that predicts tokens further ahead; `CheckpointError` if it is one too many."""
        if layer < self._layers:
            return False
        if layer < self._layers + self._ahead:
            return True
        if self._is_empty_or_buffer(name):
            return False
        raise CheckpointError(
            f"tensor {name} is of layer {layer}, but the config says that there are {self._layers} layers, 0 to "
            f"{self._layers - 1}; config and weights must be of the same model"
        )

    def _is_empty_or_buffer(self, name: str) -> bool:
        if _BUFFER.fullmatch(name) or _bare(name).bare in self._dropped:
            return True
        shape = self._source.get(name).shape
        is_mask = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
        return shape.numel() == 0 or (is_mask and _MASK.fullmatch(name) is not None)

    def _grouped(self, names: Iterable[str]) -> list[str]:
        """Names by their first words: "vision_tower (24 tensors)"."""
        groups = Counter(self._group(name) for name in names)
        return [f"{group} ({count} tensor{'s' if count > 1 else ''})" for group, count in groups.items()]

    def _group(self, name: str) -> str:
        bare = _bare(name).bare
        layer = self._layer.match(bare)
        return layer[0].removesuffix(".") if layer is not None else bare.partition(".")[0]


def _patterns(rule: NameRule) -> Sequence[str]:
    return rule.source if isinstance(rule, Rule) else (rule.source,)


def _names(rule: NameRule, layers: int) -> Iterable[str]:
    """The names that a rule has in a model with so many blocks."""
    for pattern in _patterns(rule):
        numbers = range(layers) if "{i}" in pattern else range(1)
        yield from (pattern.replace("{i}", str(i)) for i in numbers)


def _layer_pattern(rules: Sequence[NameRule]) -> re.Pattern[str]:
    """Pattern with which the bare names of layers begin, with the layer's number as a group."""
    patterns = [pattern for rule in rules for pattern in _patterns(rule) if "{i}" in pattern]
    stems = sorted({_bare(pattern).bare.partition("{i}")[0] for pattern in patterns})
    return re.compile(f"(?:{'|'.join(map(re.escape, stems))})(\\d+)\\." if stems else r"(?!)()")
