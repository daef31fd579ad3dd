"""Rotary scalings against transformers' own frequencies, beyond the original length too."""

from typing import Any

import pytest
import torch

from tests.families.both import loaded, reference_of, shrunk
from tests.families.published_configs import PUBLISHED
from tests.tolerances import RELATIVE_LOGITS

BASE = shrunk(PUBLISHED["TinyLlama/TinyLlama-1.1B-Chat-v1.0"])
LONG = {
    "dynamic": {"max_position_embeddings": 16, "rope_scaling": {"rope_type": "dynamic", "factor": 3.0}},
    "yarn": {
        "max_position_embeddings": 64,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    },
    "yarn with everything": {
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 5e5, "factor": None, "original_max_position_embeddings": 8,
            "mscale": 0.7, "mscale_all_dim": 0.9, "beta_fast": 8, "beta_slow": 2, "truncate": False,
        },
    },
    "yarn with a factor of attention": {
        "rope_scaling": {"type": "yarn", "factor": 8, "attention_factor": 1.5, "original_max_position_embeddings": 32},
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated")  # its new name is of late versions alone
@pytest.mark.parametrize("name", LONG)
def test_token_by_token_beyond_the_original_length(name: str) -> None:
    """Oracle: transformers, which is given one token at a time with its cache; then braidlm in every cut."""
    config: dict[str, Any] = BASE | LONG[name]
    reference = reference_of(config)
    ids = torch.randint(128, (1, 44), generator=torch.Generator().manual_seed(3))
    rows, cache = [], None
    for token in ids[0]:
        with torch.no_grad():
            out = reference(token.view(1, 1), past_key_values=cache, use_cache=True)
        rows.append(out.logits[0, -1])
        cache = out.past_key_values
    expected_LV = torch.stack(rows)
    actual = loaded(config, reference)
    assert actual.spec.max_positions is not None
    assert actual.spec.max_positions >= 44
    for cut in (44, 20, 1):
        state, parts = actual.new_state(), []
        for begin in range(0, 44, cut):
            parts.append(actual.forward(ids[:, begin : begin + cut], state=state)[0])
        error = (torch.cat(parts) - expected_LV).abs().max() / expected_LV.abs().max()
        assert error < RELATIVE_LOGITS[torch.float32], cut


@pytest.mark.parametrize("name", LONG)
def test_decode_steps_rotate_as_passes_do(name: str) -> None:
    """Oracle: one pass over the whole text, whose rotations are torch's; greedy steps are native."""
    config: dict[str, Any] = BASE | LONG[name]
    model = loaded(config, reference_of(config))
    ids = [5, 7, 11]
    made = [token.id for token in model.stream(ids, max_tokens=30)]
    logits_LV = model.forward([ids + made])[0]
    assert made == logits_LV[len(ids) - 1 : -1].argmax(-1).tolist()
