"""The worked example of CONTRIBUTING, from its text: one file makes a family of what none could express."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import braidlm
from braidlm import ModelSpec, families
from braidlm.errors import SpecError
from braidlm.spec import Attention, Block, Mamba, Mlp, Norm, Rope

ROOT = Path(__file__).parent.parent.parent
SECTION = re.findall(r"## Add a family\n(.*?)\n## ", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[0]
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", SECTION, re.DOTALL))

MAMBA = Mamba(inner=64, d_state=4, dt_rank=3)
ATTENTION = Attention(heads=4, kv_heads=4, head_dim=8, rope=Rope(base=1e4, dims=8))


def ribbon(*mixers: Mamba | Attention) -> ModelSpec:
    blocks = tuple(Block(mixer=mixer, ffn=Mlp(hidden=40)) for mixer in mixers)
    return ModelSpec(vocab=50, width=32, blocks=blocks, norm=Norm(eps=1e-5))


SPEC = ribbon(MAMBA, MAMBA, ATTENTION, MAMBA, MAMBA, ATTENTION, MAMBA)


@pytest.fixture
def with_ribbon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example's file, where families are looked for."""
    (tmp_path / "ribbon.py").write_text(FILES["src/braidlm/families/ribbon.py"])
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "braidlm.families.ribbon", raising=False)
    families.families.cache_clear()
    yield
    families.families.cache_clear()


def test_one_file_is_all_the_source() -> None:
    """Oracle: the files that the text shows and names: one that is new, and tests and tables that are there."""
    assert list(FILES) == ["src/braidlm/families/ribbon.py"]
    named = set(re.findall(r"`(tests/[\w/]+(?:\.py|/))`", SECTION))
    assert {"tests/families/tiny.py", "tests/families/test_exchange.py", "tests/golden/"} <= named
    assert all((ROOT / name).exists() for name in named)


def test_no_other_family_can_express_it() -> None:
    """Oracle: every family that is there refuses it in one sentence."""
    for family in families.families():
        with pytest.raises(SpecError):
            family.write(SPEC)


@pytest.mark.usefixtures("with_ribbon")
def test_it_is_saved_loaded_and_writes(tmp_path: Path) -> None:
    """Oracle: by hand: names in the published files; what is loaded from them computes and writes the same."""
    made = braidlm.build(SPEC, seed=3)
    made.save(tmp_path / "saved")
    about = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (about["model_type"], about["attention_every"], about["num_hidden_layers"]) == ("ribbon", 3, 7)
    with safe_open(tmp_path / "saved" / "model.safetensors", "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes["model.layers.0.ssm.A_log"] == (64, 4)
    assert shapes["model.layers.2.attn.q_proj.weight"] == (32, 32)
    assert shapes["model.layers.6.mlp.gate_proj.weight"] == (40, 32)
    loaded = braidlm.load(tmp_path / "saved")
    assert loaded.spec == SPEC
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    assert torch.equal(loaded.forward(ids), made.forward(ids))
    assert loaded.generate([1, 2, 3], max_tokens=8) == made.generate([1, 2, 3], max_tokens=8)


@pytest.mark.usefixtures("with_ribbon")
def test_what_it_cannot_express_is_refused() -> None:
    """Oracle: attention in layers that no `attention_every` gives."""
    with pytest.raises(SpecError):
        families.by_name("ribbon").write(ribbon(MAMBA, ATTENTION, ATTENTION, MAMBA))
