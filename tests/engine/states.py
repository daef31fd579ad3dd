"""States of a sequence with pages of keys and values, without a model."""

import torch

from braidlm.state.sequence import LayerState, SequenceState

BYTES = 400


def row(length: int) -> SequenceState:
    return SequenceState(length, (LayerState({"ssm": torch.zeros(BYTES // 4)}, None),))
