"""Self-calibration: text sampled from a model itself, to quantize it where no other text is at hand.

Text sampled at temperature 1 is of the kinds that the model has learned, in its own proportions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..engine.generate import generate
from ..generation.sampling import Sampling
from .language_model import LanguageModel

ROWS, LENGTH = 16, 512


def sample_calibration_text(
    model: LanguageModel,
    rows: int = ROWS,
    length: int = LENGTH,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """Samples `rows` sequences of `length` token ids, each begun with a random token; one seed gives one result.

    `progress(done, total)` is called for each token of a row.
    """
    length = min(length, model.spec.max_positions or length)
    begun = torch.randint(model.spec.vocab, (rows, 1), generator=torch.Generator().manual_seed(seed)).tolist()
    made = [list(row) for row in begun]
    sampling = [Sampling(max_tokens=length - 1, temperature=1.0, seed=seed + row) for row in range(rows)]
    # No token ends a row: what follows an end is text again.
    for row, token in generate(model.network, begun, model.new_state(rows), sampling, ops=model.ops):
        made[row].append(token.id)
        if progress is not None and row == rows - 1:
            progress(len(made[row]) - 1, length - 1)
    return [torch.tensor(row) for row in made]
