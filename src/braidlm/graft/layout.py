"""Layout of a graft: which blocks of the donor get which mixer, and which keep theirs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

from ..errors import InputError, SpecError
from ..spec import Attention, Block, Mixer, ModelSpec, attention_of, replace_attention
from ..system.settings import Setting, check_settings, require_value
from .blocks import parse_blocks
from .mixers import REPLACERS
from .options import MixerOptions


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What becomes of some blocks; without a mixer they keep theirs. Later rules hold over earlier ones."""

    blocks: Annotated[str, Setting('Blocks: "0, 4-9, 10-28:2", or "all".')]
    mixer: MixerOptions | None = None

    def __post_init__(self) -> None:
        check_settings(self, "layout.rules")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Layout as a recipe has it: a mixer for all blocks that no rule names, of which a share is kept."""

    mixer: MixerOptions | None = None
    keep: Annotated[
        float,
        Setting(
            "Share of the donor's attention blocks that stay, those named by rules counted; the probe says which.",
            least=0,
            most=1,
        ),
    ] = 0.0
    rules: tuple[Rule, ...] = ()
    meta_tokens: Annotated[
        int, Setting("Number of learned vectors before every sequence, which windows always show.", least=0)
    ] = 0

    def __post_init__(self) -> None:
        check_settings(self, "layout")
        require_value(bool(self.mixer or self.rules), "layout", "empty", "given a mixer or rules")
        decided = self.mixer is not None or not self.keep
        require_value(decided, "layout.keep", self.keep, "0 without layout.mixer: rules alone say what stays")


class Candidates(NamedTuple):
    """What may be replaced in a donor.

    mixers: new mixers by block. options: what the recipe says of each. replaced: blocks that a rule replaces; kept:
    blocks with attention that a rule keeps. keep: how many blocks with attention stay in all.
    """

    mixers: dict[int, Mixer]
    options: dict[int, MixerOptions]
    replaced: frozenset[int]
    kept: frozenset[int]
    keep: int

    @property
    def open(self) -> list[int]:
        """Blocks of which the probe decides."""
        return [block for block in self.mixers if block not in self.replaced]

    @property
    def with_attention(self) -> list[int]:
        """Blocks whose new mixers begin with the weights of the donor's attention."""
        return [block for block in self.mixers if self.options[block].kind != "spec"]

    def chosen(self, scores: Mapping[int, float] | None) -> list[int]:
        """Blocks that are replaced: all but those that lose most by it, of which as many stay as are to be kept."""
        wanted = max(0, self.keep - len(self.kept))
        if not wanted or not self.open:
            return sorted(self.mixers)
        assert scores is not None, "without scores nothing can be chosen"
        stay = sorted(self.open, key=lambda block: (-scores[block], block))[:wanted]
        return sorted(set(self.mixers) - set(stay))

    @property
    def needs_probe(self) -> bool:
        """Whether some blocks stay that no rule names."""
        return self.keep - len(self.kept) > 0 and bool(self.open)


def candidates(layout: Layout, donor: ModelSpec) -> Candidates:
    """What a layout replaces in a donor; `InputError` names the first block that makes no sense, and why."""
    options: dict[int, MixerOptions] = {}
    named: dict[int, bool] = {}
    attentive = [index for index, block in enumerate(donor.blocks) if plain_attention(block.mixer) is not None]
    if layout.mixer is not None:
        options = dict.fromkeys(attentive, layout.mixer)
    for number, rule in enumerate(layout.rules):
        for index in parse_blocks(rule.blocks, len(donor.blocks), f"layout.rules.{number}.blocks"):
            named[index] = rule.mixer is not None
            options.pop(index, None)
            if rule.mixer is not None:
                options[index] = rule.mixer
    mixers: dict[int, Mixer] = {}
    for index in sorted(options):
        mixers[index] = _mixer(donor, index, _with_owner(options[index], donor, mixers, index), layout.meta_tokens)
    return Candidates(
        mixers,
        {index: options[index] for index in mixers},
        frozenset(index for index, replaced in named.items() if replaced),
        frozenset(index for index in attentive if not named.get(index, True)),
        round(layout.keep * len(attentive)),
    )


def hybrid_spec(
    donor: ModelSpec, mixers: Mapping[int, Mixer], replaced: Collection[int], meta_tokens: int = 0
) -> ModelSpec:
    """Spec of the donor with the mixers of some blocks replaced; windows of all blocks show the meta tokens."""
    blocks = [
        replace(block, mixer=mixers[index]) if index in replaced else _with_sinks(block, meta_tokens)
        for index, block in enumerate(donor.blocks)
    ]
    try:
        return replace(donor, blocks=tuple(blocks), meta_tokens=donor.meta_tokens + meta_tokens)
    except SpecError as error:
        raise InputError(f"the layout makes no model: {error}") from None


def plain_attention(mixer: Mixer) -> Attention | None:
    """Attention that is a mixer by itself, not a branch of one; None for other mixers."""
    attention = attention_of(mixer)
    return attention if attention is mixer else None


def _mixer(donor: ModelSpec, index: int, options: MixerOptions, meta_tokens: int) -> Mixer:
    mixer = plain_attention(donor.blocks[index].mixer)
    if options.kind == "spec":
        assert options.spec is not None
        attention = attention_of(options.spec)
        if attention is not None and attention.kv_from is not None:
            raise InputError(f'block {index} has a spec with kv_from; give it a mixer of kind "shared"')
        return replace_attention(options.spec, lambda attention: _shown(attention, meta_tokens))
    if mixer is None:
        kind = type(donor.blocks[index].mixer).__name__
        raise InputError(
            f"block {index} of the donor has a {kind} mixer, but only attention is replaced by "
            f'{options.kind}; leave it out of the rules, or give it a mixer of kind "spec"'
        )
    if mixer.kv_from is not None and options.kind not in ("window", "shared"):
        raise InputError(
            f"block {index} of the donor has no keys and values of its own, but those of block {mixer.kv_from}, so "
            f"that a mixer of kind {options.kind} has none to begin with; leave it out of the rules"
        )
    try:
        made = REPLACERS[options.kind].spec(mixer, options, donor.width)
        return replace_attention(made, lambda attention: _shown(attention, meta_tokens))
    except SpecError as error:
        raise InputError(f"block {index} cannot be replaced by {options.kind}: {error}") from None


def _with_owner(options: MixerOptions, donor: ModelSpec, mixers: Mapping[int, Mixer], index: int) -> MixerOptions:
    """Options of a mixer that shares keys and values, with the block that they are of."""
    if options.kind != "shared" or options.kv_from is not None:
        return options
    for owner in reversed(range(index)):
        attention = attention_of(mixers.get(owner, donor.blocks[owner].mixer))
        if attention is not None and attention.kv_from is None:
            return replace(options, kv_from=owner)
    return options


def _with_sinks(block: Block, meta_tokens: int) -> Block:
    return replace(block, mixer=replace_attention(block.mixer, lambda attention: _shown(attention, meta_tokens)))


def _shown(attention: Attention, meta_tokens: int) -> Attention:
    """Attention whose window shows that many more tokens at the beginning."""
    if attention.window is None or not meta_tokens:
        return attention
    return replace(attention, sink_tokens=attention.sink_tokens + meta_tokens)
