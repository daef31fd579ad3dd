"""Options of a mixer in a recipe: its kind and its sizes, those of the donor's attention where they are left out."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ..spec import Mixer
from ..system.settings import Setting, check_settings, require_value

Kind = Literal["mamba2", "mamba", "hyena", "window", "parallel", "shared", "spec"]

# Taps of a short convolution, where a recipe does not say.
CONV = 4
# What each kind may be given beside itself.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "mamba2": ("d_state", "conv"),
    "mamba": ("d_state", "conv"),
    "hyena": ("d_state",),
    "window": ("window", "sink_tokens"),
    "parallel": ("window", "sink_tokens", "ssm", "d_state", "conv"),
    "shared": ("kv_from",),
    "spec": ("spec",),
}


@dataclass(frozen=True, kw_only=True)
class MixerOptions:
    """Mixer that takes the place of a block's attention."""

    kind: Annotated[
        Kind,
        Setting(
            "Kind of the mixer: mamba2, mamba, hyena, window (attention to the last tokens), parallel (that beside a "
            "recurrence), shared (keys and values of an earlier block), or spec."
        ),
    ]
    window: Annotated[int | None, Setting("Number of keys that a window shows, the query's own included.", least=1)] = (
        None
    )
    sink_tokens: Annotated[int, Setting("Number of first tokens that a window always shows.", least=0)] = 0
    ssm: Annotated[Literal["mamba2", "mamba"] | None, Setting("Recurrence of a parallel mixer.", unset="mamba2")] = None
    d_state: Annotated[
        int | None,
        Setting("States of a head (mamba2), a channel (mamba) or a filter (hyena).", least=1, unset="by the kind"),
    ] = None
    conv: Annotated[int | None, Setting("Taps of the short convolution.", least=2, unset="4")] = None
    kv_from: Annotated[
        int | None, Setting("Block whose keys and values are shared.", least=0, unset="the last one that has some")
    ] = None
    spec: Mixer | None = None

    def __post_init__(self) -> None:
        check_settings(self, "mixer")
        for name in ("window", "sink_tokens", "ssm", "d_state", "conv", "kv_from", "spec"):
            given = bool(getattr(self, name)) or (name == "kv_from" and self.kv_from == 0)
            lawful = name in _OPTIONS[self.kind]
            require_value(lawful or not given, f"mixer.{name}", getattr(self, name), f"left out for kind {self.kind}")
        for name in set(_OPTIONS[self.kind]) & {"window", "spec"}:
            there = getattr(self, name) is not None
            require_value(there, f"mixer.{name}", None, f"given for kind {self.kind}")
