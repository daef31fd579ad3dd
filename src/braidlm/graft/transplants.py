"""Settings of transplants: whole blocks of other donors in the place of blocks of the main one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ..system.settings import Setting, check_settings, require_value


@dataclass(frozen=True, kw_only=True)
class Donor:
    """Another model that blocks are taken from."""

    name: Annotated[str, Setting("Name by which transplants call it.")]
    model: Annotated[str, Setting("The model: a path or a name.")]

    def __post_init__(self) -> None:
        check_settings(self, "donors")


@dataclass(frozen=True, kw_only=True)
class Transplant:
    """Blocks of the main donor whose places are taken by as many blocks of another donor, in order."""

    blocks: Annotated[str, Setting('Blocks of the main donor that make room: "0, 4-9, 10-28:2", or "all".')]
    donor: Annotated[str, Setting("Name of the other donor.")]
    donor_blocks: Annotated[str, Setting("Blocks of the other donor that come, as many.")]
    bridge: Annotated[
        bool, Setting("Whether projections that are trained join models of other widths, norms or vocabularies.")
    ] = False
    fit_tokens: Annotated[
        int, Setting("Number of tokens of training text on which the projections are fitted.", least=1)
    ] = 8192
    ridge: Annotated[
        float, Setting("Penalty on the projections' squares, relative to the inputs' mean square.", above=0)
    ] = 1e-4

    def __post_init__(self) -> None:
        check_settings(self, "transplants")


def check_names(donors: Sequence[Donor], transplants: Sequence[Transplant]) -> None:
    """Raises `InputError` unless every transplant's donor has one entry, and every entry gives a block."""
    names = [donor.name for donor in donors]
    where = f"one of the donors' names ({', '.join(names)})" if names else "named in a table donors"
    for number, transplant in enumerate(transplants):
        require_value(transplant.donor in names, f"transplants.{number}.donor", transplant.donor, where)
    used = {transplant.donor for transplant in transplants}
    for number, name in enumerate(names):
        require_value(name not in names[:number], f"donors.{number}.name", name, "one that no other donor has")
        require_value(name in used, f"donors.{number}.name", name, "the donor of a transplant")
