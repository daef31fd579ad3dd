"""Policy of snapshots: at which positions of a sequence they are taken. It knows lengths, and no states."""

from typing import NamedTuple

from .request import Request


class SnapshotPolicy(NamedTuple):
    """Policy of one engine: snapshots are at most `interval` tokens apart, while memory lasts.

    enabled: whether there is memory for any. truncatable: whether a state can be truncated to an earlier token, so that
    one snapshot serves every prefix.
    """

    interval: int
    enabled: bool = True
    truncatable: bool = False

    def serves(self, request: Request) -> bool:
        """Whether snapshots of this request are kept for others."""
        return self.enabled and request.state is None

    def prefill_end(self, request: Request, begin: int, max_decode_tokens: int) -> int:
        """Length of the prompt, which is known up to `begin`, that prefill passes run.

        The suffix after it is left to decode steps, where that costs less: up to `max_decode_tokens` tokens of one
        sequence, of several ones the last token, and so the last one behind others where a snapshot is wanted before
        it (a pass would run every mixer in two parts).
        """
        whole = len(request.ids)
        if request.prompt_logprobs is not None or not request.generates:
            return whole
        if whole - begin <= (max_decode_tokens if request.n == 1 else 1):
            return begin
        wanted = self.serves(request) and not self.truncatable and whole not in request.message_boundaries
        return whole - 1 if wanted else whole

    def snapshot_positions(self, request: Request, begin: int, end: int) -> tuple[int, ...]:
        """Positions in (begin, end] of the prompt at which snapshots are to be taken, in order."""
        if not self.serves(request):
            return ()
        if self.truncatable:
            wanted = {len(request.ids)}
        else:
            first = begin - begin % self.interval
            multiples = range(first, end + 1, self.interval)
            wanted = {len(request.ids) - 1, *request.message_boundaries, *multiples}
        return tuple(sorted(position for position in wanted if begin < position <= end))

    def wants_snapshot(self, request: Request, length: int) -> bool:
        """Whether a snapshot is to be taken after `length` tokens of a sequence that goes on."""
        return self.serves(request) and not self.truncatable and length % self.interval == 0
