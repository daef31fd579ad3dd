"""Options of a mixer in a recipe: its kind and its sizes, those of the donor's attention where they are left out."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ..spec import Mixer
from ..system.settings import Setting, check_settings, require_value

Kind = Literal["mamba2", "mamba", "hyena", "window", "parallel", "shared", "spec"]

_WINDOWED = ("window", "parallel")


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
    ssm: Annotated[Literal["mamba2", "mamba"], Setting("Recurrence of a parallel mixer.")] = "mamba2"
    d_state: Annotated[
        int | None,
        Setting("States of a head (mamba2), a channel (mamba) or a filter (hyena).", least=1, unset="by the kind"),
    ] = None
    conv: Annotated[int, Setting("Taps of the short convolution.", least=2)] = 4
    kv_from: Annotated[
        int | None, Setting("Block whose keys and values are shared.", least=0, unset="the last one that has some")
    ] = None
    spec: Mixer | None = None

    def __post_init__(self) -> None:
        check_settings(self, "mixer")
        windowed = self.kind in _WINDOWED
        name = "mixer.window"
        require_value(windowed == (self.window is not None), name, self.window, f"given for {' and '.join(_WINDOWED)}")
        require_value(windowed or not self.sink_tokens, "mixer.sink_tokens", self.sink_tokens, "0 without a window")
        require_value((self.spec is not None) == (self.kind == "spec"), "mixer.spec", self.spec, "given for kind spec")
        shared = self.kind == "shared" or self.kv_from is None
        require_value(shared, "mixer.kv_from", self.kv_from, "left out but for kind shared")
