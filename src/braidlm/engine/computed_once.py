"""Cache of results in which callers that ask for one key at the same time wait for one computation."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class ComputedOnce(Generic[Key, Result]):
    """Cache of a function's results by its argument, of those used last. May be used from several threads."""

    def __init__(self, compute: Callable[[Key], Result], most: int) -> None:
        """`most` is how many results are kept. What `compute` raises goes to all who wait for it, and is not kept."""
        self._compute = compute
        self._most = most
        self._results: OrderedDict[Key, Future[Result]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: Key) -> Result:
        """The result for `key`."""
        with self._lock:
            is_new = key not in self._results
            result = self._results.setdefault(key, Future())
            self._results.move_to_end(key)
            while len(self._results) > self._most:
                self._results.popitem(last=False)
        if is_new:
            self._compute_for(key, result)
        return result.result()

    def _compute_for(self, key: Key, result: "Future[Result]") -> None:
        try:
            result.set_result(self._compute(key))
        except BaseException as error:
            with self._lock:
                if self._results.get(key) is result:
                    del self._results[key]
            result.set_exception(error)
