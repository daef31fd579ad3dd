"""Recipe of a graft: one TOML file, every field of it known and checked before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import InputError, SpecError
from ..spec.json import decode, encode
from ..system.setting_files import read_toml, set_value
from ..system.settings import Setting, check_settings, require_value
from ..train.config import Data, resolve_shards
from .align import Align
from .chats import Chats
from .layout import Layout
from .phases import Phase
from .probe import Probe
from .report.settings import Report
from .transplants import Donor, Transplant, check_names


@dataclass(frozen=True, kw_only=True)
class GraftRun:
    """Execution of a graft, and its directory."""

    out: Annotated[str, Setting("Directory of the graft: a directory for each stage, the report, the model.")]
    dtype: Annotated[
        Literal["bfloat16", "float32"], Setting("Dtype of activations in training, and of the model that is written.")
    ] = "bfloat16"
    seed: Annotated[int, Setting("Seed of all that is random.")] = 0
    activation_checkpointing: Annotated[
        bool, Setting("Whether activations are computed again for gradients instead of kept.")
    ] = False

    def __post_init__(self) -> None:
        check_settings(self, "run")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Recipe of a graft: the donor, the layout of the hybrid, and the settings of each stage that is to run.

    `control` trains the donor itself, as it is, for the report: what its data alone change.
    """

    donor: Annotated[str, Setting("Model whose blocks are replaced: a path or a name.")]
    layout: Layout
    data: Data
    run: GraftRun
    donors: tuple[Donor, ...] = ()
    transplants: tuple[Transplant, ...] = ()
    align: Align = field(default_factory=Align)
    probe: Probe = field(default_factory=Probe)
    chats: Chats | None = None
    distil: Phase | None = None
    lengthen: Phase | None = None
    tune: Phase | None = None
    control: Phase | None = None
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        check_settings(self)
        check_names(self.donors, self.transplants)
        for name, phase in self.trained.items():
            require_value(bool(phase.stages), f"{name}.stages", [], "at least one stage")
            there = self.chats is not None or not phase.chats
            require_value(there, f"{name}.chats", phase.chats, "0 without a table chats, which says what is asked")

        if self.control is not None:
            require_value(
                self.control.cross_entropy > 0, "control.cross_entropy", 0.0, "above 0: the donor has nothing to learn "
                "from its own distributions",
            )  # fmt: skip
            plain = self.control.donor_lr == 1.0 and self.control.branch_dropout is None
            require_value(plain, "control", "given donor_lr or branch_dropout", "without them: it has no new weights")

    @property
    def trained(self) -> dict[str, Phase]:
        """All phases by name, that of the control too."""
        return self.phases | ({"control": self.control} if self.control is not None else {})

    @property
    def phases(self) -> dict[str, Phase]:
        """Stages that train the whole model, by name, in order."""
        every = {"distil": self.distil, "lengthen": self.lengthen, "tune": self.tune}
        return {name: phase for name, phase in every.items() if phase is not None}

    def to_json(self) -> dict[str, Any]:
        """Recipe as plain data."""
        return encode(self)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Recipe in a file with `changes` ("align.optimizer.lr=1e-3") made; paths in it are relative to the file.

    `InputError` names the first field that is unknown, missing or wrong.
    """
    data = read_toml(path)
    for change in changes:
        set_value(data, change)
    _resolve(data, path.parent)
    try:
        recipe: Recipe = decode(Recipe, data, path.name)
    except SpecError as error:
        raise InputError(str(error)) from None
    except RecursionError:
        raise InputError(f"{path}, or a change to it, is nested too deep") from None
    return recipe


def _resolve(data: dict[str, Any], here: Path) -> None:
    """Makes paths absolute; a donor that is no path here may be a preset's name or a hub id."""
    tables = ((data, "donor", False), (data.get("run"), "out", True), (data.get("chats"), "prompts", True))
    others = data.get("donors")
    models = ((other, "model", False) for other in (others if isinstance(others, list) else ()))
    for place, key, must in (*tables, *models):
        value = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict) and isinstance(value, str) and (must or (here / value).exists()):
            place[key] = str((here / value).absolute())
    for table in (None, "distil", "lengthen", "tune", "control"):
        owner = data if table is None else data.get(table)
        resolve_shards(owner.get("data") if isinstance(owner, dict) else None, here.absolute())
