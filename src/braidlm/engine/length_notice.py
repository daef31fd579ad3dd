"""Notice, given once, that sequences are longer than the model was measured to be usable."""

from ..errors import LengthWarning, warn


class LengthNotice:
    """Notice of one model, which all its engines share; `usable_length` None: nothing is known, and none is given."""

    def __init__(self, usable_length: int | None = None) -> None:
        self._usable_length = usable_length

    @property
    def is_due(self) -> bool:
        """Whether the notice is still to be given."""
        return self._usable_length is not None

    def check(self, tokens: int) -> None:
        """Warns, the first time, of a sequence of so many tokens if that is more than the usable length."""
        usable = self._usable_length
        if usable is not None and tokens > usable:
            self._usable_length = None
            warn(
                f"a text has more than {usable} tokens, up to which this model was measured to be usable (braid eval "
                "length); beyond, it may predict worse and recall less",
                LengthWarning,
            )
