"""The stable surface: `LanguageModel`, what `load` and `build` return.

Here alone a batch is `[B, L]` or a list of sequences; below, everything is packed.

Legend: B = sequences, L = tokens of each, V = vocabulary, D = width.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..adapters import AdapterRegistry, Kind, merge
from ..checkpoints import saving
from ..checkpoints.saving import Origin
from ..decode.stepwise import Stepwise
from ..engine import Engine, Limits
from ..engine.generate import generate
from ..engine.grammar import Rules
from ..engine.length_notice import LengthNotice
from ..errors import InputError
from ..generation.bounds import check_ids, check_length
from ..generation.continuation import Token
from ..generation.sampling import Sampling
from ..model import footprint
from ..model.model import Logits, Model
from ..ops import Segments, dispatch
from ..ops.native_loader import tell_if_missing
from ..ops.threads import limit_to_share, on_threads
from ..quant import policy as quantization
from ..spec import ModelSpec, is_whole
from ..state.batch import BatchState
from ..state.sequence import Precision
from ..system.memory import keep_freed_memory
from ..system.progress import ProgressFunction
from ..system.progress_bar import shown
from ..system.suggest import did_you_mean
from ..system.units import aligned
from ..text.tokenizer import Tokenizer
from .inputs import Ids, Prompt, are_ids, is_single, sampling_of, sequences_of, shortened_repr, snapshot_positions_of

# At which the bytes of a state are shown.
_SHOWN_LENGTHS = (1024, 8192, 32768)


class Forward(NamedTuple):
    """Result of `LanguageModel.forward` where more than logits is asked for.

    logits: as `forward` says, or None. hidden_states: by name, shaped as logits are but D wide. states: for each
    sequence, its states at the positions asked for.
    """

    logits: Tensor | list[Tensor] | None
    hidden_states: dict[str, Tensor | list[Tensor]]
    states: tuple[BatchState, ...]


def _with_ops(method: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a method under the model's own choice of implementations."""

    @functools.wraps(method)
    def wrapped(self: "LanguageModel", *args: Any, **kwargs: Any) -> Any:
        with dispatch.using(self.ops):
            return method(self, *args, **kwargs)

    return wrapped


class LanguageModel:
    """A model with its tokenizer. `model.network` is the torch module, for training and inspection."""

    def __init__(
        self,
        network: Model,
        tokenizer: Tokenizer | None,
        origin: Origin,
        *,
        ops: str = "auto",
        deterministic: bool = False,
    ) -> None:
        """Wraps a network and its tokenizer; `load` explains `deterministic`."""
        if network.device.type == "cpu":
            keep_freed_memory()
            limit_to_share()
        self.network = network
        self.tokenizer = tokenizer
        self.origin = origin
        self.ops = dispatch.checked(ops)
        self.adapters = AdapterRegistry(network, origin.format)
        self._length_notice = LengthNotice(origin.usable_length)
        with dispatch.using(self.ops):
            if network.device.type == "cpu":
                tell_if_missing()
            self._run = Stepwise(network) if deterministic else network

    def load_adapter(self, name: str, directory: str | Path) -> None:
        """Loads a low-rank adapter in peft's format under `name`, for `using` and for the engine's requests."""
        self.adapters.load_adapter(name, directory)

    def load_initial_state(self, name: str, path: str | Path) -> None:
        """Loads a learned initial state under `name`, for `using` and for the engine's requests."""
        self.adapters.load_initial(name, path)

    def merge_adapter(self, directory: str | Path) -> list[Kind]:
        """Adds an adapter in peft's format to the weights, in place: summed in float32, rounded once.

        `InputError` for quantized weights, in whose steps the change would be lost.
        """
        merged = merge(self.network, directory, self.origin.format)
        self.origin, self._length_notice = self.origin.without_measurements(), LengthNotice()
        return merged

    def using(self, adapter: str | None = None, initial: str | None = None) -> "LanguageModel":
        """The model with an adapter and a learned initial state, over the same weights; this one is left as it is."""
        network = self.adapters.of(adapter, initial)
        origin = self.origin if adapter is None and initial is None else self.origin.without_measurements()
        return LanguageModel(network, self.tokenizer, origin, ops=self.ops, deterministic=self.deterministic)

    def __repr__(self) -> str:
        """Summary as `braid info` shows it."""
        network, label = self.network, f" with {self.network.label}" if self.network.label else ""
        kinds = {name: weight.kind for name, weight in quantization.quantized_weights(network).items()}
        facts = footprint.facts(self.spec, _SHOWN_LENGTHS, Precision.of(network.dtype), kinds)
        facts["usable_length"] = self.origin.usable_length
        return aligned(f"LanguageModel{label}", footprint.lines(self.spec, facts))

    @property
    def spec(self) -> ModelSpec:
        """Spec of the model."""
        return self.network.spec

    @property
    def deterministic(self) -> bool:
        """Whether every way of running gives the same bits."""
        return isinstance(self._run, Stepwise)

    @_with_ops
    def new_state(self, batch: int = 1, kv_dtype: str | None = None) -> BatchState:
        """State of `batch` sequences that have seen no token.

        `kv_dtype` stores keys and values as "float32", "bfloat16" ("bf16"), "float16", "fp8" or
        "int8"; None as activations are.
        """
        if not is_whole(batch) or batch < 1:
            raise InputError(f"batch is {batch!r}, but must be a whole number from 1")
        if self.deterministic:
            # A learned prefix is run by torch, whose numbers may depend on how many threads there are.
            with on_threads(1):
                return self.network.new_state(batch, kv_dtype)
        return self.network.new_state(batch, kv_dtype)

    def load_state(self, path: str | Path, kv_dtype: str | None = None) -> BatchState:
        """Reads the state that `BatchState.save` wrote; `StateError` if they belong to another model or precision."""
        return self.new_state(1, kv_dtype).load(path)

    @_with_ops
    def forward(
        self,
        ids: Ids,
        *,
        state: BatchState | None = None,
        logits: Logits = "all",
        hidden_states: Collection[str] = (),
        state_at: Sequence[Sequence[int]] | None = None,
    ) -> Any:
        """Runs sequences: logits for every token, [B, L, V] in float32; a list of [L_b, V] for a list of sequences.

        `ids` is [B, L] whole numbers (torch or numpy), or a list of 1-D sequences of unequal length. `state` (one row a
        sequence) is moved along, so calls may follow one another with any number of tokens; with
        it, no gradient is recorded. `logits` "last" gives [B, V], one row for each sequence that
        has new tokens; None gives no logits. `hidden_states` names those to return ("embed", "blocks.0", ..., "norm").
        `state_at` gives, for each sequence, increasing numbers of new tokens after which its
        state is wanted; one pass serves them all. With `hidden_states` or `state_at`, or without logits, the
        result is a `Forward`.

        Raises `InputError` for ids out of range or without tokens, `ContextLengthError` beyond the declared
        length (never silently truncated), `StateError` for another model's state.
        """
        if logits not in ("all", "last", None):
            raise InputError(f"logits is {logits!r}, but must be 'all', 'last' or None")
        sequences, dense = sequences_of(ids, self.spec.vocab)
        self._check_hidden_states(hidden_states)
        if state is not None:
            state.require(self.network.weights.identity(state.precision.kv))
            if len(state) != len(sequences):
                raise InputError(f"ids have {len(sequences)} sequences, but the state has {len(state)}")
            for length, ids_L in zip(state.lengths, sequences, strict=True):
                check_length(length + len(ids_L), self.spec.max_positions)
            with torch.no_grad():
                return self._forward(sequences, dense, state, logits, hidden_states, state_at, commit=True)
        for ids_L in sequences:
            check_length(len(ids_L), self.spec.max_positions)
        return self._forward(
            sequences, dense, self.new_state(len(sequences)), logits, hidden_states, state_at, commit=False
        )

    def _forward(
        self,
        sequences: list[Tensor],
        dense: bool,
        state: BatchState,
        logits: Logits,
        hidden_states: Collection[str],
        state_at: Sequence[Sequence[int]] | None,
        *,
        commit: bool,
    ) -> Any:
        segments = Segments(tuple(len(ids_L) for ids_L in sequences), snapshot_positions_of(state_at, sequences))
        out = self._run(
            torch.cat(sequences).to(self.network.device), segments, state, logits=logits, hidden_states=hidden_states
        )
        if commit:
            state.commit(out.state)

        def shaped(packed: Tensor) -> Tensor | list[Tensor]:
            if dense:
                return packed.unflatten(0, (len(sequences), -1))
            return list(packed.split(list(segments.lengths)))

        made = None if out.logits is None else out.logits if logits == "last" else shaped(out.logits)
        if made is not None and not hidden_states and state_at is None:
            return made
        return Forward(made, {name: shaped(hidden) for name, hidden in out.hidden_states.items()}, out.snapshots)

    def hidden_states(self, ids: Ids, layers: Collection[str] | None = None) -> dict[str, Any]:
        """Hidden states by name, [B, L, D] each (a list of [L_b, D] for a list of sequences), without logits.

        `ids` as in `forward`. `layers` are some of "embed", "blocks.0" (after the first block), ..., and "norm", which
        is what the head takes; None gives all of them, in this order.
        """
        names = ("embed", *(f"blocks.{i}" for i in range(len(self.spec.blocks))), "norm")
        return self.forward(ids, logits=None, hidden_states=names if layers is None else layers).hidden_states

    def _check_hidden_states(self, hidden_states: Collection[str]) -> None:
        if isinstance(hidden_states, str):
            raise InputError(
                f"hidden_states is {hidden_states!r}, but must be a list of names, such as [{hidden_states!r}]"
            )
        known = {"embed", "norm", *(f"blocks.{i}" for i in range(len(self.spec.blocks)))}
        for name in hidden_states:
            if name not in known:
                raise InputError(
                    f"there is no layer {name!r} to tap; there are embed, blocks.0 to "
                    f"blocks.{len(self.spec.blocks) - 1}, and norm{did_you_mean(str(name), known)}"
                )

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a text, of chat messages (through the model's template), or ids as they are."""
        items: Any = prompt.tolist() if isinstance(prompt, (Tensor, np.ndarray)) else prompt
        ids = [int(item) for item in items] if are_ids(items) else self._encode_text(items)
        if not ids:
            raise InputError("the prompt is empty; give at least one token")
        check_ids(ids, self.spec.vocab)
        return ids

    def decode(self, ids: Sequence[int] | Tensor | np.ndarray, *, skip_special: bool = True) -> str:
        """The text of token ids (one sequence), without control tokens unless `skip_special` is false."""
        items: Any = ids.tolist() if isinstance(ids, (Tensor, np.ndarray)) else ids
        if not are_ids(items):
            raise InputError(f"ids are {shortened_repr(ids)}, but must be one sequence of whole numbers")
        if self.tokenizer is None:
            raise InputError("this checkpoint has no tokenizer, and its ids no text")
        check_ids(items, self.spec.vocab)
        return self.tokenizer.decode([int(item) for item in items], skip_special=skip_special)

    def _encode_text(self, prompt: Any) -> list[int]:
        chat = isinstance(prompt, (list, tuple)) and all(isinstance(item, Mapping) for item in prompt)
        if not isinstance(prompt, str) and not chat:
            raise InputError(
                f"the prompt is {shortened_repr(prompt)}, but must be text, token ids, or a list of chat messages"
            )
        if self.tokenizer is None:
            raise InputError("this checkpoint has no tokenizer; give the prompt as token ids")
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        # The template writes the start token itself.
        return self.tokenizer.encode_marked(self.tokenizer.render_marked(prompt))

    def stream(
        self, prompt: Prompt, *, state: BatchState | None = None, kv_dtype: str | None = None, **options: Any
    ) -> Iterator[Token]:
        """Generates tokens one by one, each with .id, .text, .logprob and .finish ("stop" or "length" on the last).

        `prompt` is text, token ids, or chat messages; `options` are those of `sampling.Sampling`: max_tokens,
        temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias, stop,
        seed. With `state` (one row) the prompt continues that sequence; afterwards the state has seen everything but
        the last token.
        """
        ids, sampling = self.encode(prompt), sampling_of(options)
        state = self._state_for(state, 1, kv_dtype)
        check_length(state.lengths[0] + len(ids), self.spec.max_positions)
        return (token for _, token in self._generate([ids], state, sampling))

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        state: BatchState | None = None,
        kv_dtype: str | None = None,
        **options: Any,
    ) -> Any:
        """Generates the text of a prompt, or a list of texts for a list of prompts (run as one ragged batch).

        Options are those of `stream`. Without a tokenizer, token ids are returned instead of text.
        """
        single = is_single(prompt)
        several: Any = [prompt] if single else prompt
        prompts = [self.encode(item) for item in several]
        made: list[list[Token]] = [[] for _ in prompts]
        for row, token in self._generate(prompts, self._state_for(state, len(prompts), kv_dtype), sampling_of(options)):
            made[row].append(token)
        if self.tokenizer is None:
            results: list[Any] = [[token.id for token in tokens] for tokens in made]
        else:
            results = ["".join(token.text for token in tokens) for tokens in made]
        return results[0] if single else results

    def _state_for(self, state: BatchState | None, rows: int, kv_dtype: str | None) -> BatchState:
        if state is None:
            return self.new_state(rows, kv_dtype)
        state.require(self.network.weights.identity(state.precision.kv))
        if len(state) != rows:
            raise InputError(f"there are {rows} prompts, but the state has {len(state)} rows")
        return state

    def _generate(self, prompts: list[list[int]], state: BatchState, sampling: Sampling) -> Iterator[tuple[int, Token]]:
        return generate(
            self.network,
            prompts,
            state,
            [sampling] * len(prompts),
            ends=self.origin.ends,
            new_detokenizer=self.tokenizer.stream if self.tokenizer else None,
            run=self._run,
            ops=self.ops,
            length_notice=self._length_notice,
        )

    def engine(self, kv_dtype: str | None = None, limits: Limits | None = None) -> Engine:
        """An engine that runs many requests on this model at once; close it when done (see `engine.Engine`)."""
        return Engine(
            self.network,
            functools.partial(self.new_state, 1, kv_dtype),
            run=self._run,
            ends=self.origin.ends,
            new_detokenizer=self.tokenizer.stream if self.tokenizer else None,
            compile_grammar=Rules(self.tokenizer.to_json, self.spec.vocab, self.origin.ends)
            if self.tokenizer
            else None,
            limits=limits,
            ops=self.ops,
            adapters=self.adapters,
            length_notice=self._length_notice,
        )

    def quantize(
        self,
        weight_format: str,
        *,
        calibration: Sequence[Tensor] | None = None,
        policy: Mapping[str, str] | None = None,
        progress: ProgressFunction | Literal[False] | None = None,
    ) -> None:
        """Quantizes the weights in place to the `weight_format` int8, int4 or fp8; see `load` to do so while loading.

        `calibration` (rows of token ids, a few thousand in all) quantizes int4 and int8 weights so that the
        blocks' outputs on that text stay close; `policy` has the weights' own formats by their names. `progress` as
        in `load`. A usable length that was measured before is forgotten: it is that of other weights.
        """
        with dispatch.using(self.ops), shown("quantizing", progress) as step:
            quantization.quantize(self.network, weight_format, policy, calibration, step)
        self.origin, self._length_notice = self.origin.without_measurements(), LengthNotice()

    def save(
        self, directory: str | Path, format: str = "hf", progress: ProgressFunction | Literal[False] | None = None
    ) -> None:
        """Writes a directory that appears whole or not at all.

        `format` "hf" is the published layout of the model's family, "braidlm" our own (any spec),
        "mamba-original" or "mamba2-original" the state-spaces one. `progress` as in `load`.
        """
        with shown(f"writing {Path(directory).name}", progress) as step:
            saving.save(self.network, self.tokenizer, self.origin, directory, format, step)
