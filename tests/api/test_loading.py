"""Loading costs no second copy of the weights, and keeps what it was given."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import braidlm
from braidlm.families.presets import preset
from tests.families.tiny import tiny
from tests.tolerances import DIVERGENCE_BFLOAT16

MEASURE = """
import re, sys
from pathlib import Path
import braidlm.api.loading
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024
before = anonymous()
model = braidlm.load(sys.argv[1])
weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
print(weights, anonymous() - before)
"""


@pytest.mark.parametrize("layout", ["hf", "braidlm"])
def test_weights_are_mapped_not_copied(layout: str, tmp_path: Path) -> None:
    """Oracle: the kernel's count of memory that belongs to no file, before and after loading 50 MB."""
    spec = preset("granite-4.0-h-350m").spec
    small = braidlm.ModelSpec.from_json(spec.to_json() | {"vocab": 8000, "blocks": spec.to_json()["blocks"][:2]})
    small = small.replace_block(1, mixer=spec.blocks[10].mixer)
    braidlm.build(small, dtype="bfloat16").save(tmp_path / "model", layout)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    weights, grown = map(int, done.stdout.split())
    assert weights > 40e6
    assert grown < weights / 4


def test_dtypes() -> None:
    """Oracle: the policy: matrices in the dtype asked for, norms, decays and poles in float32."""
    for family in ("mamba", "mamba2", "stripedhyena", "hymba"):
        model = braidlm.build(tiny(family, 0), dtype="bfloat16")
        dtypes = {name: p.dtype for name, p in model.network.named_parameters()}
        assert dtypes["embed.weight"] == torch.bfloat16
        for name, dtype in dtypes.items():
            leaf = name.rpartition(".")[2]
            precise = "norm" in name or leaf in ("a_log", "d", "dt_bias", "poles", "residues")
            assert dtype == (torch.float32 if precise else torch.bfloat16), name


def test_build_is_reproducible() -> None:
    """Oracle: the same seed; another one."""
    one, same, other = (braidlm.build(tiny("hymba", 0), seed=s) for s in (1, 1, 2))
    weights = [m.network.blocks[1].ffn.up_proj.weight for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_bfloat16_stays_close_to_float32() -> None:
    """Oracle: the float32 run of the same weights: next-token distributions differ by a small divergence."""
    for family in ("mamba", "mamba2", "stripedhyena", "hymba", "bamba", "granitemoehybrid", "llama"):
        wide = braidlm.build(tiny(family, 0), seed=2)
        narrow = braidlm.build(tiny(family, 0), seed=2, dtype="bfloat16")
        ids = torch.randint(wide.spec.vocab, (2, 70), generator=torch.Generator().manual_seed(0))
        logits = [model.forward(ids).log_softmax(-1) for model in (wide, narrow)]
        divergence = (logits[0].exp() * (logits[0] - logits[1])).sum(-1).mean()
        assert divergence < DIVERGENCE_BFLOAT16, family
