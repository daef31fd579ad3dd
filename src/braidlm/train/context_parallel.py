"""Context parallelism: processes have parts of a sequence's tokens, and each block's state goes from one to the next.

A process runs a block once it has the block's state after the part before; the process before is then at the next
block, so that with L blocks and n processes a pass takes L + n - 1 blocks' time instead of n L. Recurrences pass a
state of constant size, attention the keys and values that are still seen. Gradients of states come back the same way.

Legend: T = tokens of a part, D = width.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import InputError
from ..layers import Batch
from ..model.model import RunBlock
from ..ops import Segments
from ..state.batch import BatchLayerState
from ..state.sequence import SequenceState
from .data.pack import Pack


class Part(NamedTuple):
    """Part of a packed sequence that one process has.

    seen: tokens of its first document in the parts before; goes_on: the next part begins with the document in which
    this one ends.
    """

    pack: Pack
    seen: int = 0
    goes_on: bool = False


def part(pack: Pack, index: int, count: int) -> Part:
    """Part number `index` of `count` parts of a packed sequence, as equal as can be."""
    total = len(pack.ids_T)
    if total < count:
        raise InputError(
            f"a sequence of {total} tokens cannot be shared by {count} processes; make stages.seq_len larger"
        )
    begin, end = (total * number // count for number in (index, index + 1))
    starts = Segments(pack.lengths).starts
    rows = [row for row in zip(starts, starts[1:], pack.documents) if row[0] < end and row[1] > begin]
    own = pack._replace(
        ids_T=pack.ids_T[begin:end],
        targets_T=pack.targets_T[begin:end],
        lengths=tuple(min(last, end) - max(first, begin) for first, last, _ in rows),
        continues=pack.continues and index == 0,
        documents=tuple(number for *_, number in rows),
    )
    return Part(own, begin - rows[0][0], rows[-1][1] > end)


def gone_on(row: SequenceState, seen: int) -> SequenceState:
    """A state whose `seen` next tokens are in the parts before: at the right position, without what they left in it."""
    layers = (replace(layer, kv=layer.kv and layer.kv.with_pages(layer.kv.length + seen, ())) for layer in row.layers)
    return SequenceState(row.length + seen, tuple(layers), row.identity)


class ContextParallel:
    """Channel of states between this process, which has part `index` of `count`, and the ranks before and after it."""

    def __init__(self, rank: int, index: int, count: int) -> None:
        self._before, self._after = rank - 1, rank + 1
        self._index, self._count = index, count
        self._sent: list[tuple[Any, Tensor]] = []

    def part(self, pack: Pack) -> Part:
        """Part of a packed sequence that this process has."""
        return part(pack, self._index, self._count)

    def over(self, part: Part, run: RunBlock) -> RunBlock:
        """Function that runs a block over a part as `run` does, after receiving its state and before sending it on."""
        self._wait()

        def run_part(
            block: nn.Module, x_TD: Tensor, state: BatchLayerState, batch: Batch, dtype: torch.dtype
        ) -> tuple[Tensor, BatchLayerState]:
            owns_kv = state.kv is not None and state.kv.new_k is None  # not those of an earlier block
            if part.seen:
                x_TD, state = self._received(x_TD, state, batch.starts[0], owns_kv)
            y_TD, after = run(block, x_TD, state, batch, dtype)
            if part.goes_on:
                y_TD = _Send.apply(self, _passing(y_TD), *_carried(after, batch.segments, owns_kv))
            return y_TD, after

        return run_part

    def _received(
        self, x_TD: Tensor, state: BatchLayerState, length: int, owns_kv: bool
    ) -> tuple[Tensor, BatchLayerState]:
        """The state with what its first row carries after `length` positions."""
        shapes = [t[0] for t in state.recurrent.values()]
        kv = state.kv if owns_kv else None
        if kv is not None:
            kept, kv_dtype = kv.past[0].spec.kept(length), getattr(torch, kv.past[0].kv_dtype)
            sizes = (kv.past[0].spec.k_dim, kv.past[0].spec.v_dim)
            shapes += [x_TD.new_empty(kept, kv.past[0].spec.heads, size, dtype=kv_dtype) for size in sizes if kept]
        x_TD, *found = _Receive.apply(self, _passing(x_TD), *shapes)
        recurrent = {
            name: torch.cat([t[None], state.recurrent[name][1:]])
            for name, t in zip(state.recurrent, found, strict=False)
        }
        if kv is not None:
            tensors = dict(zip(("k", "v"), found[len(recurrent) :], strict=False))
            first = kv.past[0].with_pages(0, ()).from_tensors(tensors, length)
            state = replace(state, kv=replace(kv, past=(first, *kv.past[1:])))
        return x_TD, replace(state, recurrent=recurrent)

    def send(self, tensors: Sequence[Tensor], *, back: bool = False) -> None:
        """Sends tensors to the next process, or gradients `back` to the one before, without waiting for it."""
        for tensor in tensors:
            plain = _plain(tensor.detach()).contiguous()
            self._sent.append((dist.isend(plain, self._before if back else self._after), plain))

    def receive(self, shapes: Sequence[Tensor], *, back: bool = False) -> list[Tensor]:
        """Tensors of these shapes from the process before, or gradients from the one after (`back`)."""
        found = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in shapes]
        for tensor in found:
            dist.recv(_plain(tensor), self._after if back else self._before)
        return found

    def _wait(self) -> None:
        """Waits until all that was sent has gone."""
        for work, _ in self._sent:
            work.wait()
        self._sent.clear()


def _passing(x_TD: Tensor) -> Tensor:
    """x, through which gradients pass: above frozen weights too, neighbours wait for those of states."""
    return x_TD.detach().requires_grad_() if torch.is_grad_enabled() and not x_TD.requires_grad else x_TD


def _plain(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _carried(after: BatchLayerState, segments: Segments, owns_kv: bool) -> list[Tensor]:
    """Tensors of the last row's state."""
    last = len(segments.lengths) - 1
    held = [t[last] for t in after.recurrent.values()]
    if owns_kv:
        assert after.kv is not None
        tensors = after.kv.after(last, segments)[-1].tensors()
        held += [tensors[name] for name in ("k", "v") if name in tensors]
    return held


class _Receive(torch.autograd.Function):
    """(x, tensors of the right shapes) -> (x, what the process before has sent).

    x goes through it, and through `_Send`, so that gradients are passed block by block in the same order everywhere.
    """

    @staticmethod
    def forward(ctx: Any, ranks: ContextParallel, x_TD: Tensor, *shapes: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks = ranks
        return x_TD.view_as(x_TD), *ranks.receive(shapes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx_TD: Tensor, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.ranks.send(gradients, back=True)
        return None, dx_TD, *(None for _ in gradients)


class _Send(torch.autograd.Function):
    """(y, tensors that the next process gets) -> y."""

    @staticmethod
    def forward(ctx: Any, ranks: ContextParallel, y_TD: Tensor, *tensors: Tensor) -> Tensor:
        ctx.ranks = ranks
        ctx.save_for_backward(*tensors)  # for their shapes
        ranks.send(tensors)
        return y_TD.view_as(y_TD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
        return None, dy_TD, *ctx.ranks.receive(ctx.saved_tensors, back=True)
