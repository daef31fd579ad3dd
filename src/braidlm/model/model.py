"""Language model: embedding, blocks, norm, head, built from a spec and run over packed batches.

`Model.forward` is pure: it takes a state and returns a new one. It does not know tokenizers,
checkpoints or the `[B, L]` form of a batch.

Legend: T = packed tokens of all rows, R = rows, D = width, V = vocabulary.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .. import layers, ops
from ..errors import InputError
from ..layers import Batch, Layer
from ..layers.linear import Adapter, Embedding, Linear, RmsNorm, empty
from ..ops import Segments
from ..ops.plan import PlanBuilder
from ..spec import ModelSpec, attention_of
from ..state.batch import BatchLayerState, BatchState
from ..state.sequence import Precision, SequenceState, empty_sequence
from .identity import VersionRecord, Weights

Logits = Literal["all", "last"] | None


class Output(NamedTuple):
    """Output of one forward pass.

    logits: [T, V] in float32, [R, V] for "last" (rows without new tokens are left out), or None.
    hidden_states: [T, D] each, by name. state: the rows after the new tokens. snapshots: for each row, its states at
    its snapshot positions.
    """

    logits: Tensor | None
    hidden_states: dict[str, Tensor]
    state: BatchState
    snapshots: tuple[BatchState, ...]


class Block(nn.Module):
    """Block: one mixer and at most one feed-forward layer, each with a norm before, added to the residual stream."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        block = spec.blocks[index]
        self.scale = block.residual_scale
        self.mixer_norm = RmsNorm(spec.width, spec.norm)
        self.mixer = layers.build_mixer(block.mixer, spec)
        self.ffn = None if block.ffn is None else layers.build_feed_forward(block.ffn, spec.width)
        if self.ffn is not None:
            self.ffn_norm = RmsNorm(spec.width, spec.norm)

    def forward(
        self, x_TD: Tensor, state: BatchLayerState, batch: Batch, dtype: torch.dtype
    ) -> tuple[Tensor, BatchLayerState]:
        """Runs the block on the residual stream [T, D], float32 or float64; its layers compute in `dtype`."""
        y, state = self.mixer(self.mixer_norm(x_TD, dtype), state, batch)
        x_TD = ops.add_scaled(x_TD, y, self.scale)
        if self.ffn is not None:
            x_TD = ops.add_scaled(x_TD, self.ffn(self.ffn_norm(x_TD, dtype)), self.scale)
        return x_TD, state

    def build_step(self, builder: PlanBuilder) -> None:
        """Adds the block's decode step to a plan."""
        self.mixer.build_step(builder, builder.normed(builder.x, self.mixer_norm), self.scale)
        if self.ffn is not None:
            self.ffn.build_step(builder, builder.normed(builder.x, self.ffn_norm), self.scale)


RunBlock = Callable[[nn.Module, Tensor, BatchLayerState, Batch, torch.dtype], tuple[Tensor, BatchLayerState]]


def run_block(
    block: nn.Module, x_TD: Tensor, state: BatchLayerState, batch: Batch, dtype: torch.dtype
) -> tuple[Tensor, BatchLayerState]:
    """Runs a block; the default of `Model.hidden`."""
    return block(x_TD, state, batch, dtype)


class Model(nn.Module):
    """Language model over token ids. Parameters are empty until a checkpoint or random initialisation fills them."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embed = Embedding(spec.vocab, spec.width)
        self.prefix = empty(spec.meta_tokens, spec.width) if spec.meta_tokens else None
        self.blocks = nn.ModuleList(Block(spec, index) for index in range(len(spec.blocks)))
        self.norm = RmsNorm(spec.width, spec.norm)
        self.head = None if spec.tied else Linear(spec.width, spec.vocab)
        self.initial: Adapter | None = None  # changes the state that new sequences begin with
        self.compute_dtype: torch.dtype | None = None
        self.label = ""  # the model's name among others over the same weights
        self._versions = VersionRecord()

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the activations and of plain weights (some parameters stay in float32, see `fp32_parameter_names`).

        `compute_dtype` sets that of the activations apart: weights in float32 are then rounded to it where they are
        used, as in training, where small steps would be lost in a narrow weight (Micikevicius et al. 2018).
        """
        return self.compute_dtype or self.embed.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.embed.weight.device

    @property
    def weights(self) -> Weights:
        """The weights as a whole: their version, their fingerprint, the identity of the states that they compute."""
        return Weights(self, self._versions)

    def fp32_parameter_names(self) -> Iterator[str]:
        """Names of parameters that stay in float32 whatever the dtype of the weights: norms, decays, poles."""
        for name, module in self.named_modules():
            if isinstance(module, Layer):
                yield from (f"{name}.{parameter}" for parameter in module.FP32_PARAMETERS)

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Weights by name: every parameter, then parts of quantized weights, which are buffers; none of adapters."""
        inside = tuple(f"{name}." for name, _ in self.named_adapters())
        yield from ((name, weight) for name, weight in self.named_parameters() if not name.startswith(inside))
        yield from sorted((name, part) for name, part in self.named_buffers() if not name.startswith(inside))

    def named_adapters(self) -> Iterator[tuple[str, Adapter]]:
        """Adapters that are attached, by their modules' names."""
        yield from ((name, module) for name, module in self.named_modules() if isinstance(module, Adapter))

    def share_weights(self) -> "Model":
        """A second model over the very same weights, which can be given adapters of its own."""
        made = _shallow_copy(self)
        made._versions = self._versions.shared()
        return made

    def require_no_adapters(self, what: str) -> None:
        """Raises `InputError` if adapters are attached; `what` is the act that would leave them out."""
        if any(True for _ in self.named_adapters()):
            raise InputError(f"the model has adapters, and cannot be {what} with them; merge or detach them first")

    def new_state(self, rows: int, kv_dtype: str | None = None) -> BatchState:
        """State of `rows` sequences that have seen nothing but the meta tokens.

        Meta tokens are run once and their state is shared by reference; while gradients are recorded they are run
        anew, so that gradients reach them.
        """
        self.weights.notice_edits()
        precision = Precision.of(self.dtype, kv_dtype)
        initial = replace(self._initial_sequence(precision), identity=self.weights.identity(kv_dtype))
        return BatchState(self.spec, precision, [initial] * rows, initial, self.device)

    def training_state(self, rows: int) -> BatchState:
        """State of `rows` new sequences for training: it has no identity, and is neither stored nor compared."""
        precision = Precision.of(self.dtype)
        initial = self._initial_sequence(precision)
        return BatchState(self.spec, precision, [initial] * rows, initial, self.device)

    def _initial_sequence(self, precision: Precision) -> SequenceState:
        state = self.fresh_sequence(precision)
        return state if self.initial is None else self.initial(state)

    def fresh_sequence(self, precision: Precision) -> SequenceState:
        """State of a sequence that has seen nothing but the meta tokens, whatever initial state was learned."""
        if self.prefix is None:
            return empty_sequence(self.spec, precision, self.device)
        recorded = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if recorded:
            return self.run_meta_tokens(precision).state.sequences[0]
        return self.weights.cached(precision, lambda: self.run_meta_tokens(precision).state.sequences[0])

    def run_meta_tokens(self, precision: Precision, hidden_states: Collection[str] = ()) -> Output:
        """Runs the meta tokens alone, as one sequence."""
        assert self.prefix is not None
        empty = empty_sequence(self.spec, precision, self.device)
        state = BatchState(self.spec, precision, [empty], empty, self.device)
        return self._run(self.prefix, Segments((len(self.prefix),)), state, None, hidden_states)

    def forward(
        self,
        ids_T: Tensor,
        segments: Segments,
        state: BatchState,
        *,
        logits: Logits = "all",
        hidden_states: Collection[str] = (),
    ) -> Output:
        """Runs the new tokens [T] of every row of `state`; `segments.lengths` may hold zeros.

        `hidden_states` names hidden states to return: "embed", "blocks.0" ... (the residual stream after
        a block), "norm".
        """
        return self._run(self.embed(ids_T), segments, state, logits, hidden_states)

    def hidden(
        self, ids_T: Tensor, segments: Segments, state: BatchState, run: RunBlock = run_block
    ) -> tuple[Tensor, list[BatchLayerState]]:
        """Runs a pass for training: the head's input, [T, D] in `dtype`, and each block's state after the new tokens.

        `run` runs one block, and may keep less for the gradient than `run_block` does.
        """
        x_TD, layers, _ = self._through_blocks(self.embed(ids_T), segments, state, (), run)
        return self.norm(x_TD, self.dtype), layers

    def _through_blocks(
        self,
        x_TD: Tensor,
        segments: Segments,
        state: BatchState,
        hidden_states: Collection[str],
        run: RunBlock = run_block,
    ) -> tuple[Tensor, list[BatchLayerState], dict[str, Tensor]]:
        """Residual stream after the last block, the blocks' states, and the hidden states that are asked for."""
        x_TD = x_TD.to(torch.float64 if self.dtype == torch.float64 else torch.float32) * self.spec.embed_scale
        batch = Batch(segments, tuple(row.length + row.ahead for row in state.sequences), self.device)
        found = {"embed": x_TD} if "embed" in hidden_states else {}
        layers: list[BatchLayerState] = []
        for index, block in enumerate(self.blocks):
            x_TD, layer = run(block, x_TD, self.layer_state(index, state, layers), batch, self.dtype)
            layers.append(layer)
            if f"blocks.{index}" in hidden_states:
                found[f"blocks.{index}"] = x_TD
        return x_TD, layers, found

    def _run(
        self, x_TD: Tensor, segments: Segments, state: BatchState, logits: Logits, hidden_states: Collection[str]
    ) -> Output:
        x_TD, layers, found = self._through_blocks(x_TD, segments, state, hidden_states)
        after, snapshots = state.advanced(layers, segments)
        if "norm" in hidden_states:
            found["norm"] = self.norm(x_TD, self.dtype)
        if logits == "last":
            last = [end - 1 for end, n in zip(segments.starts[1:], segments.lengths, strict=True) if n]
            x_TD = x_TD if len(last) == len(x_TD) else x_TD[last]
        return Output(self.head_logits(self.norm(x_TD, self.dtype)) if logits else None, found, after, snapshots)

    def layer_state(self, index: int, state: BatchState, done: list[BatchLayerState]) -> BatchLayerState:
        """State of block `index` before a pass; for a shared KV cache its owner's, with the new tokens in it."""
        own = state.layer(index)
        attention = attention_of(self.spec.blocks[index].mixer)
        if attention is None or attention.kv_from is None:
            return own
        return BatchLayerState(own.recurrent, done[attention.kv_from].kv)

    def head_logits(self, normed_TD: Tensor) -> Tensor:
        """Logits [T, V] of hidden states [T, D] after the last norm ("norm"), in float32 or float64."""
        logits_TV = self.head(normed_TD) if self.head is not None else ops.linear(normed_TD, self.embed.weight)
        logits_TV = logits_TV.to(torch.promote_types(self.dtype, torch.float32))
        return logits_TV if self.spec.logit_scale == 1.0 else logits_TV * self.spec.logit_scale


def _shallow_copy(module: Any) -> Any:
    made = module.__class__.__new__(module.__class__)
    made.__dict__ = {**module.__dict__, "_parameters": dict(module._parameters), "_buffers": dict(module._buffers)}
    made.__dict__["_modules"] = {name: child and _shallow_copy(child) for name, child in module._modules.items()}
    return made
