"""Share of time between prefill and decode, from measured seconds."""

# Seconds of decode for each second of prefill. With one, sequences take at least twice as long beside a prompt as
# without it, 2.1 times in practice.
_DECODE_SHARE = 4 / 3


class PrefillThrottle:
    """Shares time between prefill and decode: decode gets somewhat more than it had to wait."""

    def __init__(self) -> None:
        self._owed = 0.0

    def may_prefill(self, decoding: bool) -> bool:
        """Whether a chunk of a prompt may run now; `decoding`: whether sequences wait for their next token."""
        return not decoding or self._owed <= 0

    def prefilled(self, seconds: float, decoding: bool) -> None:
        """Records so many seconds of prefill."""
        self._owed = self._owed + _DECODE_SHARE * seconds if decoding else 0.0

    def did_both(self, seconds: float, decoding: bool) -> None:
        """Records a decode step that also ran suffixes of prompts, for which the other sequences waited less."""
        self._owed = self._owed + seconds if decoding else 0.0

    def decoded(self, seconds: float) -> None:
        """Records so many seconds of decode."""
        self._owed = max(0.0, self._owed - seconds)
