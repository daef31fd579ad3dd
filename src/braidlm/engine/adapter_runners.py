"""The variants of a model that the engine runs side by side: a runner for each, over slots of the same numbers.

A step is one call for each adapter that is in it; the model's own rows and those that only begin otherwise are one.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..adapters import Variants
from ..errors import InputError
from ..generation.generate import Run
from ..model.model import Model
from ..state.batch import BatchState
from ..state.sequence import Identity
from ..state.state_file import Owner
from .request import Request, as_exception
from .runner import DecodeInput, Runner

# An adapter and a learned initial state by name.
AdapterKey = tuple[str | None, str | None]
BASE: AdapterKey = (None, None)


def adapter_key_of(request: Request) -> AdapterKey:
    """What a request wants."""
    return request.adapter, request.initial


class AdapterRunners:
    """Runners by variant; each is made when it is first needed."""

    def __init__(
        self, model: Model, run: Run, new_state: Callable[[], BatchState], slots: int, variants: Variants | None
    ) -> None:
        """`run`, `new_state` and `slots` are as for `Runner`."""
        self._model = model
        self._run = run
        self._new_state = new_state
        self._slots = slots
        self._variants = variants or Variants(model)
        self._runners = {BASE: Runner(model, run, new_state, slots)}
        self._precision = new_state().precision

    @property
    def base(self) -> Runner:
        """Of the model itself."""
        return self._runners[BASE]

    def require(self, variant: AdapterKey) -> None:
        """`InputError` for a variant that there is not."""
        self._variants.require(*variant)
        if variant[0] is not None and self._run is not self._model:
            raise InputError("deterministic runs have no adapters; merge the adapter into the weights")

    def identity(self, variant: AdapterKey) -> Identity:
        """Whose states a variant's are. May be asked from any thread."""
        return self._variants.of(*variant).identity(self._precision.kv)

    def of(self, variant: AdapterKey) -> Runner:
        """The runner of a variant."""
        if variant not in self._runners:
            model = self._variants.of(*variant)
            adapter, initial = variant
            # What begins otherwise goes on as ever: only adapters change how tokens are run.
            run = self._run if adapter is None else model
            shared = None if initial is None else self.of((adapter, None)).slots
            kv = self._precision.kv
            self._runners[variant] = Runner(model, run, lambda: model.new_state(1, kv), self._slots, shared)
        return self._runners[variant]

    def owner(self, variant: AdapterKey) -> Owner:
        """Whose rows a variant's are."""
        return self.of(variant).owner

    def refresh(self) -> bool:
        """Begins anew if the weights have changed; whether they have."""
        if not self.base.refresh() and not any(runner.stale for runner in self._runners.values()):
            return False
        self._runners = {BASE: self.base}
        return True

    def write(self, moves: Sequence[tuple[AdapterKey, DecodeInput]]) -> tuple[dict[int, Tensor], dict[int, Exception]]:
        """Moves slots along; by slot, the logits after each of its tokens, [tokens, V], or what failed.

        Where a call fails, its slots go on one by one, without guesses: only those at fault stay where they are.
        """
        made: dict[int, Tensor] = {}
        failed: dict[int, Exception] = {}
        for adapter in dict.fromkeys(adapter for (adapter, _), _ in moves):
            runner = self.of((adapter, None))
            own = [move for (of, _), move in moves if of == adapter]
            try:
                made |= runner.write(own)
            except BaseException:  # a panic of a library is none of Exception
                for move in own:
                    try:
                        made |= runner.write([move.sure])
                    except BaseException as error:
                        failed[move.slot] = as_exception(error)
        return made, failed

    def rollback(self, counts: Mapping[tuple[AdapterKey, int], int]) -> None:
        """Takes back so many of the last tokens of each slot."""
        for adapter in dict.fromkeys(adapter for (adapter, _), _ in counts):
            self.of((adapter, None)).rollback({slot: n for ((of, _), slot), n in counts.items() if of == adapter})
