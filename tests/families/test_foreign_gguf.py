"""GGUF files by llama.cpp's converter of families that share an architecture, or have another name there."""

from pathlib import Path

import pytest
import torch

import braidlm
from braidlm import families
from braidlm.checkpoints.gguf_export import export_gguf
from tests.families.both import shrunk
from tests.families.published_configs import PUBLISHED
from tests.tolerances import RELATIVE_A_LOG

GOLDEN = Path(__file__).parents[1] / "golden" / "gguf"
# Each file was converted from the small model with this model's keys and braidlm's random weights of seed 5.
CONVERTED = {
    "bamba": "ibm-ai-platform/Bamba-9B-v1",
    "granite": "ibm-granite/granite-4.0-micro",
    "falcon_mamba": "tiiuae/falcon-mamba-7b-instruct",
}
# Largest differences of llama.cpp's logits from braidlm's on the same files were 2e-7 (granite) and 1.4e-6
# (falcon_mamba), relative to the largest logit. For Bamba it was 0.2: llama.cpp rotates other pairs than the model.


@pytest.mark.filterwarnings("ignore::braidlm.errors.LoadingWarning")
@pytest.mark.parametrize("name", CONVERTED)
def test_converted_file(name: str) -> None:
    """Oracle: the model that was converted: family, description, every weight, logits."""
    config = shrunk(PUBLISHED[CONVERTED[name]])
    if name == "falcon_mamba":
        config["mixer_rms_eps"] = 1e-5  # these files have one eps for all norms
    expected = braidlm.build(families.of_config(config).read(config), seed=5)
    found = braidlm.load(GOLDEN / f"{name}.gguf")
    assert found.origin.format == name
    kinds = [[type(block.mixer) for block in model.spec.blocks] for model in (found, expected)]
    assert kinds[0] == kinds[1]
    actual, wanted = (dict(model.network.named_parameters()) for model in (found, expected))
    assert actual.keys() == wanted.keys()
    for key, tensor in actual.items():
        if key.endswith("a_log"):
            assert torch.allclose(tensor, wanted[key], rtol=RELATIVE_A_LOG, atol=RELATIVE_A_LOG)
        else:
            assert torch.equal(tensor, wanted[key]), key
    ids = torch.arange(40)[None]
    logits = expected.forward(ids)
    assert (found.forward(ids) - logits).abs().max() < 1e-5 * logits.abs().max()


def test_a_bamba_is_not_written(tmp_path: Path) -> None:
    """Oracle: llama.cpp's logits of a converted Bamba, which are not the model's: a file would be read wrongly."""
    model = braidlm.load(GOLDEN / "bamba.gguf")
    with pytest.raises(braidlm.BraidError, match="no GGUF architecture"):
        export_gguf(model.network, tmp_path / "out.gguf")
