"""Reader of a model: hidden states of whole texts pass by pass, and logits for some tokens at a time.

The logits of a long text would not fit in memory: at 128,000 ids they are half a megabyte a token. A pass therefore
gives hidden states, and logits are made of a slice of them.

Legend: T = packed tokens of all rows, D = width, V = vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..api.language_model import LanguageModel
from ..generation.bounds import check_length
from ..model.model import Model
from ..ops import Segments, dispatch
from ..state.batch import BatchState
from .sequences import passes

# Numbers of logits in memory at a time: 32 MiB in float32.
_LOGITS = 1 << 23


class Reader:
    """Reader of a model's hidden states without gradients; `computed` counts the tokens that passes have run.

    A deterministic `LanguageModel` is read by ordinary passes. `kv_dtype` is how keys and values are stored.
    """

    def __init__(self, model: Model | LanguageModel, kv_dtype: str | None = None) -> None:
        self._network, self._ops = (model, "auto") if isinstance(model, Model) else (model.network, model.ops)
        self._kv_dtype = kv_dtype
        self.computed = 0

    @property
    def vocab(self) -> int:
        """Number of token ids."""
        return self._network.spec.vocab

    @property
    def max_positions(self) -> int | None:
        """Number of tokens that the model declares it can take."""
        return self._network.spec.max_positions

    @torch.no_grad()
    def new_state(self, rows: int) -> BatchState:
        """State of `rows` sequences that have seen no token."""
        with dispatch.using(self._ops):
            return self._network.new_state(rows, self._kv_dtype)

    def over(self, batch: Sequence[Tensor]) -> Iterator[Tensor]:
        """Hidden states of each of the `passes` over a batch."""
        state = self.new_state(len(batch))
        for part in passes(batch):
            yield self.hidden(part.rows, state)

    @torch.no_grad()
    def hidden(self, rows: Sequence[Tensor], state: BatchState) -> Tensor:
        """Hidden states [T, D] after the tokens of each row, as the head takes them; moves `state` along."""
        for seen, ids in zip(state.lengths, rows, strict=True):
            check_length(seen + len(ids), self.max_positions)
        return self._pass(rows, state, ("norm",))["norm"]

    @torch.no_grad()
    def advance(self, ids_T: Tensor, state: BatchState, chunk: int) -> None:
        """Runs one sequence of any length, `chunk` tokens a pass, for the state alone."""
        check_length(state.lengths[0] + len(ids_T), self.max_positions)
        for part in ids_T.split(chunk):
            self._pass([part], state, ())

    def _pass(self, rows: Sequence[Tensor], state: BatchState, hidden_states: tuple[str, ...]) -> dict[str, Tensor]:
        segments = Segments(tuple(map(len, rows)))
        self.computed += segments.total
        with dispatch.using(self._ops):
            packed_T = torch.cat(list(rows)).to(self._network.device)
            out = self._network(packed_T, segments, state, logits=None, hidden_states=hidden_states)
        state.commit(out.state)
        return out.hidden_states

    def slices(self, tokens: int) -> Iterator[slice]:
        """Slices of `tokens` tokens whose logits fit in memory."""
        most = max(1, _LOGITS // self.vocab)
        return (slice(begin, min(begin + most, tokens)) for begin in range(0, tokens, most))

    @torch.no_grad()
    def logs(self, hidden_TD: Tensor) -> Tensor:
        """Log probabilities [T, V] of the next token, on the CPU, for as many tokens as a slice has."""
        with dispatch.using(self._ops):
            return self._network.head_logits(hidden_TD).cpu().log_softmax(-1)


class RecordedReader(Reader):
    """Reader that keeps the hidden states of the batches that it has read: many models are compared with one.

    What is kept is as wide as the model, not as its vocabulary: a few kilobytes a token. The weights must not change.
    """

    def __init__(self, model: Model | LanguageModel, kv_dtype: str | None = None) -> None:
        super().__init__(model, kv_dtype)
        self._kept: dict[tuple[tuple[int, ...], ...], list[Tensor]] = {}

    def over(self, batch: Sequence[Tensor]) -> Iterator[Tensor]:
        """Hidden states of each of the `passes` over a batch, which are run the first time alone."""
        key = tuple(tuple(sequence.tolist()) for sequence in batch)
        if key not in self._kept:
            self._kept[key] = list(super().over(batch))
        return iter(self._kept[key])
