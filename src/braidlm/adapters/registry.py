"""Registry of the adapters and initial states loaded for a model, by name, and the model as it runs with them.

With an adapter or an initial state a model is another one over the same weights: its projections have the adapter, its
new sequences begin with the learned state, and its fingerprint tells its states from those of every other one.
"""

import threading
from pathlib import Path

from ..errors import InputError
from ..model.model import Model
from ..system.suggest import did_you_mean
from .attach import Adapters
from .files import load_adapter
from .initial import InitialState, load_initial


class AdapterRegistry:
    """Adapters and learned initial states of one model. May be used from several threads."""

    def __init__(self, model: Model, format: str | None = None) -> None:
        """A registry without adapters. `format` names the published format that the model came in (see `attach`)."""
        self._model = model
        self._format = format
        self._adapters: dict[str, Adapters] = {}
        self._initials: dict[str, InitialState] = {}
        self._made: dict[tuple[str | None, str | None], Model] = {}
        self._version = 0
        self._lock = threading.Lock()

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters."""
        return tuple(self._adapters)

    @property
    def initials(self) -> tuple[str, ...]:
        """Names of the learned initial states."""
        return tuple(self._initials)

    def load_adapter(self, name: str, directory: str | Path) -> None:
        """Makes the adapter in a directory known as `name`, for good."""
        _require_new(name, self.adapters, "adapter")
        self._adapters[name] = load_adapter(self._model, directory, self._format)

    def load_initial(self, name: str, path: str | Path) -> None:
        """Makes the learned initial state in a file known as `name`, for good."""
        _require_new(name, self.initials, "initial state")
        self._initials[name] = load_initial(self._model, path).requires_grad_(False)

    def require(self, adapter: str | None, initial: str | None) -> None:
        """`InputError` for a name that is not known."""
        for what, name, known in (("adapter", adapter, self.adapters), ("initial state", initial, self.initials)):
            if name is not None and name not in known:
                there = f"; there are {', '.join(known)}" if known else "; none is loaded"
                raise InputError(f"there is no {what} {name!r}{did_you_mean(name, known) or there}")

    def of(self, adapter: str | None = None, initial: str | None = None) -> Model:
        """Model with this adapter and initial state over the same weights; the model itself for neither."""
        self.require(adapter, initial)
        if adapter is None and initial is None:
            return self._model
        with self._lock:
            version = self._model.weights.version()
            if version != self._version:  # what was made may have weights that are replaced by now
                self._made, self._version = {}, version
            if (adapter, initial) not in self._made:
                self._made[adapter, initial] = self._make(adapter, initial)
            return self._made[adapter, initial]

    def _make(self, adapter: str | None, initial: str | None) -> Model:
        made = self._model.share_weights()
        parts = (("adapter", adapter), ("initial state", initial))
        made.label = " and ".join(f"{what} {name!r}" for what, name in parts if name is not None)
        if adapter is not None:
            self._adapters[adapter].onto(made)
        if initial is not None:
            made.initial = self._initials[initial]
        return made


def _require_new(name: str, known: tuple[str, ...], what: str) -> None:
    if not name or name in known:
        raise InputError(f"there is an {what} {name!r} already" if name else f"the {what} has no name")
