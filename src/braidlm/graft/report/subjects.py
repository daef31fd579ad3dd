"""Subjects of a report: the models that are measured side by side."""

from typing import NamedTuple

from ...api.language_model import LanguageModel

DONOR, TRAINED, WINDOWS, GRAFT = "donor", "donor_trained", "window_control", "graft"

# In the order of tables and plots.
TITLES = {
    DONOR: "donor",
    TRAINED: "donor, trained on the same data",
    WINDOWS: "windows only, untrained",
    GRAFT: "graft",
}


class Subjects(NamedTuple):
    """Models that are measured side by side; one that is None was not made, and the report says so.

    window_control: the donor with windows in the same blocks, untrained. donor_trained: the donor after training on
    the data of the graft.
    """

    donor: LanguageModel
    graft: LanguageModel
    window_control: LanguageModel | None = None
    donor_trained: LanguageModel | None = None

    def present(self) -> dict[str, LanguageModel]:
        """Models that there are, by name, in the order of `TITLES`."""
        every: dict[str, LanguageModel | None] = self._asdict()
        return {name: model for name in TITLES if (model := every[name]) is not None}
