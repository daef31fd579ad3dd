"""Deterministic runs: the same bits for every way of running a model."""

from typing import Any

import pytest
import torch

import braidlm
from braidlm import LanguageModel
from braidlm.bench.verify import verify
from braidlm.checkpoints.saving import Origin
from braidlm.errors import InputError, UnavailableError
from braidlm.ops import native_loader
from tests.families.tiny import TINY, tiny
from tests.tolerances import RELATIVE_LOGITS

pytestmark = pytest.mark.skipif(native_loader.why_not() is not None, reason="the extension is not built")


def model_of(family: str, **options: Any) -> LanguageModel:
    made = braidlm.build(tiny(family, 1), dtype=options.pop("dtype", "float32"))
    weight_format = options.pop("quantize", None)
    if weight_format is not None:
        made.quantize(weight_format)
    return LanguageModel(made.network, None, Origin(), deterministic=True, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "bfloat16"},
        *({"dtype": "bfloat16", "quantize": weight_format} for weight_format in ("int8", "int4", "fp8")),
    ],
    ids=str,
)
@pytest.mark.parametrize("family", TINY)
def test_every_family(family: str, options: dict[str, str]) -> None:
    """Oracle: one call; cuts, batches, forks, files, marks and threads give its bits."""
    checks = verify(model_of(family, **options), 20)
    assert len(checks) == 9
    assert [check.error for check in checks] == [0.0] * len(checks)


@pytest.mark.parametrize("kv_dtype", ["int8", "fp8"])
def test_stored_keys(kv_dtype: str) -> None:
    """Oracle: as above, with keys and values in few bits, past a page of them."""
    checks = verify(model_of("llama", dtype="bfloat16"), 150, kv_dtype=kv_dtype)
    assert [check.error for check in checks] == [0.0] * len(checks)


@pytest.mark.parametrize("family", TINY)
def test_close_to_the_model_itself(family: str) -> None:
    """Oracle: the same weights run as a whole."""
    ids = torch.arange(1, 30)[None]
    actual = model_of(family)
    wanted = LanguageModel(actual.network, None, Origin()).forward(ids)
    assert (actual.forward(ids) - wanted).abs().max() <= RELATIVE_LOGITS[torch.float32] * wanted.abs().max()
    assert torch.equal(actual.forward(ids, logits="last"), actual.forward(ids)[:, -1])


def test_texts_do_not_depend_on_the_batch() -> None:
    """Oracle: each prompt alone, sampled with the same seed."""
    model = model_of("granitemoehybrid", dtype="bfloat16")
    prompts = [[1, 2, 3, 4, 5], [7], [9, 8, 7]]
    options = {"max_tokens": 12, "temperature": 1.0, "seed": 3}
    assert model.generate(prompts, **options) == [model.generate(prompt, **options) for prompt in prompts]


def test_refusals() -> None:
    """Oracle: one sentence about what deterministic runs cannot do."""
    network = braidlm.build(tiny("llama", 1), dtype="float64").network
    with pytest.raises(UnavailableError, match="native extension"):
        LanguageModel(network, None, Origin(), deterministic=True)
    with pytest.raises(UnavailableError, match="native extension"):
        model_of("llama", ops="reference")
    with pytest.raises(InputError, match="hidden states are not returned"):
        model_of("llama").forward([[1, 2]], hidden_states=["norm"])
