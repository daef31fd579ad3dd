"""Chunks of requests from the engine's thread to the event loop, and answers that go on by themselves."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from ..engine import RequestHandle, StreamChunk
from ..generation.continuation import Token

Made = list[list[Token]]


async def stream_chunks(handles: Sequence[RequestHandle]) -> AsyncIterator[tuple[int, StreamChunk]]:
    """Chunks of `handles` with the number of each handle, as they come; the first error is raised."""
    loop, fresh = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(fresh.set)

    for handle in handles:
        handle.listen(tell)
    going = list(range(len(handles)))
    while going:
        await fresh.wait()
        fresh.clear()
        for number in list(going):
            for item in handles[number].arrived():
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    going.remove(number)
                else:
                    yield number, item


class Answer:
    """Answer to one HTTP request. It goes on by itself, so that a client who reads slowly or leaves holds nothing up.

    Its sequences are numbered: those of the first handle, of the second, and so on. Iterate to get (number, token).
    Once that has ended, `done` has seen all of them.
    """

    def __init__(
        self, handles: Sequence[RequestHandle], done: Callable[[Made], Awaitable[None]], over: Callable[[], None]
    ) -> None:
        """`done` gets each sequence's tokens when the last one has come, also of an answer that was cancelled.

        `over` is called after that, whatever has happened, and before the iteration ends.
        """
        self.handles = handles
        self.made: Made = [[] for handle in handles for _ in range(handle.request.n)]
        self.begun = time.perf_counter()
        self.first: float | None = None  # seconds until the first token
        self.seconds = 0.0  # and until the last one
        self._done = done
        self._over = over
        self._items: asyncio.Queue[tuple[int, Token] | Exception | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            await self._follow()
            await self._done(self.made)
        except Exception as raised:
            error = raised
        finally:
            self.cancel()
            self._over()
        self._items.put_nowait(error)

    async def _follow(self) -> None:
        starts = [sum(handle.request.n for handle in self.handles[:n]) for n in range(len(self.handles))]
        async for number, (index, token) in stream_chunks(self.handles):
            self.seconds = time.perf_counter() - self.begun
            self.first = self.first or self.seconds
            place = starts[number] + index
            self.made[place].append(token)
            self._items.put_nowait((place, token))

    def cancel(self) -> None:
        """Stops the generation; what was generated is kept."""
        for handle in self.handles:
            handle.cancel()

    async def __aiter__(self) -> AsyncIterator[tuple[int, Token]]:
        while (item := await self._items.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    async def whole(self) -> Made:
        """Tokens of all sequences, once the answer has ended."""
        async for _ in self:
            pass
        return self.made
