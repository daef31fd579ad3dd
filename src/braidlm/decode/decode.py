"""Native decoder: sequences in the slots of a decode plan, which each step moves on by a token or a few.

A slot's recurrent states are updated in place, in one slab for all slots. Full pages of keys and
values are the state's own, shared and never written to; only each sequence's last page is a
private copy with room to the page's end.

A sequence that took several tokens in one step can be rolled back to any of them. Keys and values are dropped;
recurrences begin at their states before the step and are run again on their inputs, which were kept.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..model.model import Model
from ..ops import dispatch
from ..ops.native_loader import extension, why_not
from ..ops.plan import StateBuffer
from ..ops.threads import count
from ..spec.state import PAGE_TOKENS
from ..state.kv import KeyValues, Page, QuantizedKV, with_room
from ..state.sequence import Identity, LayerState, Precision, SequenceState
from .plan import plan_of

_DTYPES = (torch.float32, torch.bfloat16)

# So many tokens of one sequence take a step less time than a pass of the model: the matrix unit has rows to spare.
_MAX_DECODE_TOKENS = {"avx512_amx": 32}
_MAX_DECODE_TOKENS_BY_VECTORS = 8


def available(model: Model) -> bool:
    """Whether this model can be decoded by a native plan here, with the chosen implementations of operations."""
    return (
        model.device.type == "cpu"
        and model.dtype in _DTYPES
        and model.compute_dtype is None  # a plan multiplies by weights as they are
        and all(adapter is model.initial for _, adapter in model.named_adapters())
        and why_not() is None
        and dispatch.choice() in ("native", "auto")
    )


class _Tail:
    """KV cache of one sequence in one block: full pages, and a last one with room."""

    def __init__(self, held: KeyValues) -> None:
        self._held = held
        partial = held.length % PAGE_TOKENS
        self.full = list(held.pages[:-1] if partial else held.pages)
        self.last = with_room(held.pages[-1]) if partial else None

    def turn(self, start: int) -> Page:
        """Adds a page that begins at position `start`; the one before is full."""
        page = self._held.empty_page(start)
        if self.last is not None:
            self.full.append(self.last)
        self.last = page
        return page

    def back(self, length: int) -> Page | None:
        """Removes the last page if it begins at or behind `length`, and returns it."""
        if self.last is None or self.last.start < length:
            return None
        gone, self.last = self.last, self.full.pop() if self.full else None
        return gone

    def leave(self, length: int) -> list[Page]:
        """Removes the pages that no query from `length` on can see, and returns them."""
        rule = self._held.spec
        gone = [page for page in self.full if rule.sink_tokens <= page.start < rule.first_kept(length)]
        self.full = [page for page in self.full if page not in gone]
        return gone

    def kept(self, length: int) -> KeyValues:
        """KV cache after the first `length` positions."""
        self.leave(length)
        pages = list(self.full)
        if self.last is not None:
            used = length - self.last.start
            pages.append(self.last if used == PAGE_TOKENS else self.last.first(used))
        return self._held.with_pages(length, pages)


class _LastStep(NamedTuple):
    """The last step: its slots, and the recurrent states before it of those that can be rolled back."""

    slots: list[int]
    before: dict[int, list[Tensor]]


class Decoder:
    """Native decoder of up to `capacity` sequences of one model at one precision, each in a slot of its own."""

    def __init__(self, model: Model, precision: Precision, capacity: int) -> None:
        self.max_decode_tokens = _MAX_DECODE_TOKENS.get(extension().level(), _MAX_DECODE_TOKENS_BY_VECTORS)
        self._plan = plan_of(model, precision.kv)
        self._blocks = len(model.spec.blocks)
        self._slots = extension().Slots(self._plan.plan, capacity)
        self._states = [torch.zeros(capacity, *buffer.shape, dtype=buffer.dtype) for buffer in self._plan.states]
        for index, slab in enumerate(self._states):
            self._slots.bind_state(index, slab)
        self._tails: list[dict[int, _Tail]] = [{} for _ in range(capacity)]
        self._positions = [0] * capacity  # tokens that each sequence has seen, meta tokens counted
        self._ahead = [0] * capacity  # meta tokens of each sequence
        self._identities: list[Identity | None] = [None] * capacity
        self._last = _LastStep([], {})

    def set_state(self, slot: int, state: SequenceState) -> None:
        """Puts a sequence into a slot; `state` itself is left as it is."""
        self._slots.clear(slot)
        self._positions[slot], self._ahead[slot] = state.length + state.ahead, state.ahead
        self._identities[slot] = state.identity
        for buffer, slab in zip(self._plan.states, self._states, strict=True):
            slab[slot] = _into_plan(state.layers[buffer.block].recurrent[buffer.name], buffer)
        for block, kv in self._plan.kv_of_block.items():
            held = state.layers[block].kv
            assert held is not None
            tail = self._tails[slot][block] = _Tail(held)
            for page in (*tail.full, tail.last):
                if page is not None:
                    self._add_page(kv, slot, page)

    def state_of(self, slot: int) -> SequenceState:
        """State of the sequence in a slot as it is now, independent of later steps."""
        recurrent: list[dict[str, Tensor]] = [{} for _ in range(self._blocks)]
        for buffer, slab in zip(self._plan.states, self._states, strict=True):
            recurrent[buffer.block][buffer.name] = _from_plan(slab[slot], buffer)
        positions, tails = self._positions[slot], self._tails[slot]
        layers = (
            LayerState(slots, tails[block].kept(positions) if block in tails else None)
            for block, slots in enumerate(recurrent)
        )
        return SequenceState(positions - self._ahead[slot], tuple(layers), self._identities[slot])

    def free(self, slot: int) -> None:
        """Frees a slot for another sequence."""
        self._slots.clear(slot)
        self._tails[slot] = {}

    def step(self, ids: Tensor, slots: list[int], *, keep: Collection[int] = ()) -> Tensor:
        """Runs one token of each sequence in `slots`; returns logits [len(slots), V] in float32.

        A slot that comes several times in a row gets as many tokens, of which `rollback` can undo the last ones for
        slots in `keep`. A step that fails has moved none of them.
        """
        # Made anew in any case: copies of states live no longer than they are good for.
        self._last = _LastStep(slots, {slot: [slab[slot].clone() for slab in self._states] for slot in keep})
        positions, after = [], {slot: self._positions[slot] for slot in slots}
        for slot in slots:
            positions.append(after[slot])
            after[slot] += 1
        # At most one page a slot: a step is far shorter.
        turned = {slot: at for slot, at in zip(slots, positions) if at % PAGE_TOKENS == 0}
        logits = torch.empty(len(slots), self._plan.plan.logits)
        try:
            for slot, position in turned.items():
                self._turn_pages(slot, position)
            self._slots.step(ids, torch.tensor(slots), torch.tensor(positions), logits, bool(keep), count())
        except Exception:
            for slot in turned:
                self._turn_back(slot)
            raise
        for slot in turned:
            self._leave_pages(slot)
        for slot, position in after.items():
            self._positions[slot] = position
        return logits

    def rollback(self, counts: Mapping[int, int]) -> None:
        """Rolls back the last tokens of the last step: `counts` of them by slot; the slots were in its `keep`."""
        slots = self._last.slots
        rows: list[int] = []
        for slot, count_ in counts.items():
            self._positions[slot] -= count_
            self._turn_back(slot)
            for slab, before in zip(self._states, self._last.before[slot], strict=True):
                slab[slot] = before
            first = slots.index(slot)
            rows += range(first, first + slots.count(slot) - count_)
        if self._states:
            self._slots.advance(torch.tensor(sorted(rows)), count())

    def _turn_pages(self, slot: int, position: int) -> None:
        for block, kv in self._plan.kv_of_block.items():
            self._add_page(kv, slot, self._tails[slot][block].turn(position))

    def _turn_back(self, slot: int) -> None:
        for block, kv in self._plan.kv_of_block.items():
            gone = self._tails[slot][block].back(self._positions[slot])
            if gone is not None:
                self._slots.release_page(kv, slot, gone.start)

    def _leave_pages(self, slot: int) -> None:
        # What the first token of the step saw stays: the others may be rolled back.
        for block, kv in self._plan.kv_of_block.items():
            for gone in self._tails[slot][block].leave(self._positions[slot]):
                self._slots.release_page(kv, slot, gone.start)

    def _add_page(self, kv: int, slot: int, page: Page) -> None:
        self._slots.add_page(kv, slot, page.start, _raw(page.k), _raw(page.v), page.k.scale, page.v.scale)


def _raw(stored: QuantizedKV) -> Tensor:
    """Data of keys or values; fp8 as bytes, since numpy's protocols do not know it."""
    return stored.data.view(torch.uint8) if stored.data.dtype == torch.float8_e4m3fn else stored.data


def _into_plan(tensor: Tensor, buffer: StateBuffer) -> Tensor:
    if buffer.layout == "same":
        return tensor
    exchanged = tensor.transpose(0, 1)
    return torch.stack([exchanged.real, exchanged.imag]) if buffer.layout == "planes" else exchanged


def _from_plan(tensor: Tensor, buffer: StateBuffer) -> Tensor:
    if buffer.layout == "same":
        return tensor.clone()
    plain = torch.complex(*tensor) if buffer.layout == "planes" else tensor
    return plain.transpose(0, 1).contiguous().clone()
