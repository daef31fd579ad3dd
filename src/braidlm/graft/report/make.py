"""Making of a report, the last stage of a graft: the subjects are measured, and the files written."""

from collections.abc import Sequence
from pathlib import Path

from ...api.language_model import LanguageModel
from ...eval.sequences import windows
from ..prepared import Prepared
from .control import window_control
from .facts import facts
from .measure import measure
from .measurement import Told
from .settings import Report
from .subjects import Subjects
from .summary import Figure
from .write import write, write_card

# In `run.out`: the measurements, each as it is made.
MEASURED = "report/measured.json"


def make_report(
    prepared: Prepared,
    replaced: Sequence[int],
    graft: LanguageModel,
    donor_trained: LanguageModel | None,
    settings: Report,
    model: Path,
    told: Told,
) -> list[Figure]:
    """Measures a graft, and writes report.json and report.html into `run.out` and the card into the directory `model`.

    `replaced` are the blocks with another mixer. `told(sentence)` is called before each measurement; a report that was
    killed goes on. Returns the summary.
    """
    donor, out = prepared.language, Path(prepared.recipe.run.out)
    control = window_control(donor, prepared.found, replaced, settings.control_window)
    subjects = Subjects(prepared.main, graft, control, donor_trained)
    texts = windows(prepared.held_out_T.tolist(), settings.tokens, settings.seq_len)
    measured = measure(subjects, texts, settings, out / MEASURED, told)
    found = facts(prepared, replaced, graft.spec, measured)
    write_card(found, model)
    return write(found, out)
