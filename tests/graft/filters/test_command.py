"""`braid graft filters` from files, runs and models to what can be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import braidlm
from braidlm.bench.verify import verify
from braidlm.cli.main import app
from braidlm.errors import InputError
from braidlm.ops import Segments
from braidlm.train import plan
from braidlm.train.export import load_outcome
from tests.families.tiny import tiny
from tests.graft.filters.hyena_tensors import tensors
from tests.tolerances import RELATIVE_LOGITS
from tests.train.modal.systems import defined, system
from tests.train.small import make


def graft(*words: object) -> dict[str, Any]:
    """What the command reports."""
    found = CliRunner().invoke(app, ["graft", "filters", *map(str, words), "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def modes_in(file: Path, name: str, length: int) -> torch.Tensor:
    """Filters by the definition, from a file of modes."""
    with safe_open(file, "pt") as opened:
        poles, residues = (torch.view_as_complex(opened.get_tensor(f"{name}.{part}")) for part in ("poles", "residues"))
        filters = defined(poles, residues, length)
        filters[:, 0] += opened.get_tensor(f"{name}.direct")
        return filters


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_explicit_filters_become_modes(tmp_path: Path, suffix: str) -> None:
    """Oracle: the filters that were written, of known modes; the file's report is the one that is printed."""
    filters = defined(*system(3, 2, seed=4), 80)
    source, target = tmp_path / f"long{suffix}", tmp_path / "modes.safetensors"
    if suffix == ".npy":
        np.save(source, filters.numpy())
    else:
        save_file({"long": filters}, source)
    printed = graft(source, target, "--order", 2)
    assert torch.allclose(modes_in(target, "long", 80), filters, rtol=0, atol=1e-5)
    with safe_open(target, "pt") as opened:
        metadata = opened.metadata()
        assert opened.get_tensor("long.poles").shape == (3, 2, 2)
    assert metadata["format"] == "braidlm-modes-1"
    assert {"target": str(target)} | json.loads(metadata["report"]) == printed
    assert printed["kind"] == "explicit filters" and printed["layers"]["long"]["errors"]["worst"] < 1e-5


def test_published_implicit_filters_become_modes(tmp_path: Path) -> None:
    """Oracle: the window alone, which is a known mode, where the network is a constant."""
    parts = {f"mixer.filter_fn.{name}": part for name, part in tensors().items()}
    parts["mixer.filter_fn.implicit_filter.2.weight"][:] = 0
    source, target = tmp_path / "hyena.safetensors", tmp_path / "modes.safetensors"
    save_file({name: part.contiguous().clone() for name, part in parts.items()}, source)
    printed = graft(source, target, "--window-shift", 0, "--order", 1)
    assert printed["kind"] == "implicit filters"
    poles = (-parts["mixer.filter_fn.modulation.deltas"][0, 0].abs() / 11).exp()
    with safe_open(target, "pt") as opened:
        found = opened.get_tensor("mixer.filter_fn.poles")[:, 0]
    assert torch.allclose(found[:, 0].double(), poles.clamp(max=1 - 0.1 / 12), atol=1e-5)
    with pytest.raises(InputError, match="give --window-shift"):
        graft(source, tmp_path / "again.safetensors")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose Hyena block has implicit filters over 128 positions."""
    place = tmp_path_factory.mktemp("run")
    make(place)
    told = ["--set", "model.filters=implicit", "--set", "run.sample=0", "--set", "run.dtype=float32"]
    CliRunner().invoke(app, ["train", str(place / "run.toml"), *told], catch_exceptions=False)
    return place / "out"


def test_a_run_becomes_a_model_that_decodes_in_constant_memory(run: Path, tmp_path: Path) -> None:
    """Oracle: the logits of the run's own implicit filters, convolved by FFT; a decode step adds no byte of state."""
    printed = graft(run, tmp_path / "grafted", "--order", 12)
    assert printed["kind"] == "run with implicit filters" and printed["layers"]["blocks.1.mixer"]["length"] == 128
    model = braidlm.load(tmp_path / "grafted")
    assert model.spec.blocks[1].mixer.d_state == 12
    made = load_outcome(plan.read_any(run))
    ids = torch.arange(100) % model.spec.vocab
    with torch.no_grad():
        wanted = made.model(ids, Segments((100,)), made.model.training_state(1)).logits
    state = model.new_state()
    steps, sizes = [], set()
    for token in ids:
        steps.append(model.forward(token.view(1, 1), state=state)[0])
        sizes.add(state.nbytes)
    assert len(sizes) == 1
    assert float((torch.cat(steps) - wanted).abs().max() / wanted.abs().max()) < 10 * RELATIVE_LOGITS[torch.float32]
    assert all(check.passed for check in verify(model, 40))
    assert model.generate("The", max_tokens=4)
    assert json.loads((tmp_path / "grafted" / "filters.json").read_text())["layers"] == printed["layers"]
    assert "| blocks.1.mixer | 32 | 128 | 12 |" in (tmp_path / "grafted" / "README.md").read_text()


def test_a_checkpoint_of_a_run_and_fewer_positions(run: Path, tmp_path: Path) -> None:
    """Oracle: the report: the positions that were asked for, and the fewest modes within the tolerance."""
    (checkpoint,) = sorted((run / "checkpoints").glob("step-*"))[-1:]
    printed = graft(checkpoint, tmp_path / "grafted", "--length", 64, "--tolerance", "1e-4")
    layer = printed["layers"]["blocks.1.mixer"]
    assert layer["length"] == 64 and layer["errors"]["worst"] <= 1e-4 and layer["order"] < 15
    assert braidlm.load(tmp_path / "grafted").spec.blocks[1].mixer.d_state == layer["order"]
    with pytest.raises(InputError, match=r"length is 200, but blocks\.1\.mixer was trained on 128 positions"):
        graft(run, tmp_path / "again", "--length", 200)


def test_a_model_with_modes_gets_another_order(tmp_path: Path) -> None:
    """Oracle: the logits of the model as it was, which as many modes give again and fewer come near."""
    spec = tiny("stripedhyena", 3)
    model = braidlm.build(spec)
    model.save(tmp_path / "model", "braidlm")
    ids = torch.arange(30)[None] % spec.vocab
    wanted = model.forward(ids)
    hyena = next(block.mixer for block in spec.blocks if hasattr(block.mixer, "filters"))
    errors = []
    for order in (hyena.d_state, 1):
        graft(tmp_path / "model", tmp_path / f"order{order}", "--order", order, "--length", 400)
        found = braidlm.load(tmp_path / f"order{order}")
        errors.append(float((found.forward(ids) - wanted).abs().max() / wanted.abs().max()))
        assert all(block.mixer.d_state == order for block in found.spec.blocks if hasattr(block.mixer, "filters"))
    assert errors[0] < 10 * RELATIVE_LOGITS[torch.float32] < errors[1]


def test_tables_are_for_people(tmp_path: Path) -> None:
    """Oracle: the order and the layer in the output, and the file that was written."""
    np.save(tmp_path / "long.npy", defined(*system(3, 2, seed=4), 80).numpy())
    words = ["graft", "filters", str(tmp_path / "long.npy"), str(tmp_path / "modes.safetensors")]
    found = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "Hankel singular value" in found.stdout and "largest pole" in found.stdout
    assert found.stdout.rstrip().endswith(str(tmp_path / "modes.safetensors"))


def test_wrong_input_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Oracle: the messages."""
    out = tmp_path / "modes.safetensors"
    save_file({"x": torch.ones(2, 40, dtype=torch.complex64)}, tmp_path / "complex.safetensors")
    save_file({}, tmp_path / "empty.safetensors")
    np.save(tmp_path / "cube.npy", np.ones((2, 3, 40)))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "good.npy", np.ones((2, 40)))
    (tmp_path / "text.npy").write_text("no array")
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
    cases = [
        (["complex.safetensors", out], "x is of torch.complex64, but filters are real numbers"),
        (["empty.safetensors", out], "holds no tensors"),
        (["cube.npy", out], r"cube has the shape \[2, 3, 40\], but filters are \[channels, length\]"),
        (["objects.npy", out], "damaged or no array of numbers"),
        (["text.npy", out], "damaged or no array of numbers"),
        (["huge.npy", out], "damaged or no array of numbers"),
        (["none.npy", out], "none.npy does not exist"),
        (["good.npy", tmp_path / "out"], "a name that ends in .safetensors"),
        (["good.npy", tmp_path / "complex.safetensors"], "exists already"),
        (["good.npy", out, "--window-shift", 0], "holds no implicit filters"),
        (["good.npy", out, "--dtype", "float32"], "a file of filters, whose modes are float32"),
        (["good.npy", out, "--length", 41], "length is 41, but .* has 40 positions"),
        (["good.npy", out, "--order", "few"], "--order is 'few', but must be a number of modes"),
        (["good.npy", out, "--order", 10], "order is 10, but good has filters of 40 positions"),
    ]
    for (source, *words), message in cases:
        with pytest.raises(InputError, match=message):
            graft(tmp_path / source, *words)
    assert not out.exists()
    braidlm.build(tiny("mamba2", 3)).save(tmp_path / "mamba", "braidlm")
    with pytest.raises(InputError, match="no Hyena blocks"):
        graft(tmp_path / "mamba", tmp_path / "grafted")
