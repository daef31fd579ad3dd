"""Sequences in a decode plan: taken in from a state, moved along token by token, given back.

A slot's recurrent states are updated in place, in one slab for all slots. Full pages of keys and
values are the state's own, shared and never written to; only each sequence's last page is a
private copy with room to the page's end.
"""

import torch
from torch import Tensor

from ..kv import KeyValues, Page, Stored, with_room
from ..model import Model
from ..ops import dispatch
from ..ops.native_loader import extension, why_not
from ..ops.plan import State as Place
from ..ops.threads import count
from ..rows import LayerRow, Precision, Row
from ..slots import PAGE_TOKENS
from .plan import plan_of

_DTYPES = (torch.float32, torch.bfloat16)


def available(model: Model) -> bool:
    """Whether this model can be decoded natively here, under the present choice of operations."""
    return (
        model.device.type == "cpu"
        and model.dtype in _DTYPES
        and why_not() is None
        and dispatch.choice() in ("native", "auto")
    )


class _Tail:
    """One sequence's keys and values in one block: full pages, and the last one with room."""

    def __init__(self, held: KeyValues) -> None:
        self._held = held
        partial = held.length % PAGE_TOKENS
        self.full = list(held.pages[:-1] if partial else held.pages)
        self.last = with_room(held.pages[-1]) if partial else None

    def turn(self, start: int) -> Page:
        """A new last page from position `start` on; the one before is full."""
        if self.last is not None:
            self.full.append(self.last)
        self.last = self._held.empty_page(start)
        return self.last

    def leave(self, length: int) -> list[Page]:
        """Takes out the pages that no query from `length` on can see."""
        rule = self._held.slot
        gone = [page for page in self.full if rule.pinned <= page.start < rule.first_kept(length)]
        self.full = [page for page in self.full if page not in gone]
        return gone

    def kept(self, length: int) -> KeyValues:
        """What the sequence holds of its first `length` positions."""
        self.leave(length)
        pages = list(self.full)
        if self.last is not None:
            used = length - self.last.start
            pages.append(self.last if used == PAGE_TOKENS else self.last.first(used))
        return self._held.with_pages(length, pages)


class Decoder:
    """Up to `capacity` sequences of one model at one precision, each in a slot of its own."""

    def __init__(self, model: Model, precision: Precision, capacity: int) -> None:
        self._draft = plan_of(model, precision.kv)
        self._prefix = model.spec.prefix_tokens
        self._blocks = len(model.spec.blocks)
        self._slots = extension().Slots(self._draft.plan, capacity)
        self._states = [torch.zeros(capacity, *place.shape, dtype=place.dtype) for place in self._draft.states]
        for index, slab in enumerate(self._states):
            self._slots.bind_state(index, slab)
        self._tails: list[dict[int, _Tail]] = [{} for _ in range(capacity)]
        self._lengths = [0] * capacity

    def put(self, slot: int, row: Row) -> None:
        """Takes a sequence in; `row` itself is left as it is."""
        self._slots.clear(slot)
        self._lengths[slot] = row.length
        for place, slab in zip(self._draft.states, self._states, strict=True):
            slab[slot] = _into_plan(row.layers[place.block].fixed[place.name], place)
        for block, kv in self._draft.kv_of_block.items():
            held = row.layers[block].kv
            assert held is not None
            tail = self._tails[slot][block] = _Tail(held)
            for page in (*tail.full, tail.last):
                if page is not None:
                    self._add_page(kv, slot, page)

    def take(self, slot: int) -> Row:
        """The sequence as it is now, independent of what happens here later."""
        fixed: list[dict[str, Tensor]] = [{} for _ in range(self._blocks)]
        for place, slab in zip(self._draft.states, self._states, strict=True):
            fixed[place.block][place.name] = _from_plan(slab[slot], place)
        length = self._lengths[slot]
        tails = self._tails[slot]
        layers = (
            LayerRow(slots, tails[block].kept(length + self._prefix) if block in tails else None)
            for block, slots in enumerate(fixed)
        )
        return Row(length, tuple(layers))

    def step(self, ids: Tensor, slots: list[int]) -> Tensor:
        """Moves the sequences in `slots` along by one token each; logits [len(slots), V] in float32."""
        positions = [self._lengths[slot] + self._prefix for slot in slots]
        for slot, position in zip(slots, positions, strict=True):
            if position % PAGE_TOKENS == 0:
                self._turn_pages(slot, position)
        logits = torch.empty(len(slots), self._draft.plan.logits)
        self._slots.step(ids, torch.tensor(slots), torch.tensor(positions), logits, count())
        for slot in slots:
            self._lengths[slot] += 1
        return logits

    def _turn_pages(self, slot: int, position: int) -> None:
        for block, kv in self._draft.kv_of_block.items():
            tail = self._tails[slot][block]
            page = tail.turn(position)
            for gone in tail.leave(position):
                self._slots.release_page(kv, slot, gone.start)
            self._add_page(kv, slot, page)

    def _add_page(self, kv: int, slot: int, page: Page) -> None:
        self._slots.add_page(kv, slot, page.start, _raw(page.k), _raw(page.v), page.k.scale, page.v.scale)


def _raw(stored: Stored) -> Tensor:
    """The numbers as bytes where numpy's protocols do not know their dtype."""
    return stored.data.view(torch.uint8) if stored.data.dtype == torch.float8_e4m3fn else stored.data


def _into_plan(tensor: Tensor, place: Place) -> Tensor:
    if place.layout == "same":
        return tensor
    exchanged = tensor.transpose(0, 1)
    return torch.stack([exchanged.real, exchanged.imag]) if place.layout == "planes" else exchanged


def _from_plan(tensor: Tensor, place: Place) -> Tensor:
    if place.layout == "same":
        return tensor.clone()
    plain = torch.complex(*tensor) if place.layout == "planes" else tensor
    return plain.transpose(0, 1).contiguous().clone()
