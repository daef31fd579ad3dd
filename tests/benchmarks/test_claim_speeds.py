"""Published claims that speed decides: their commands on small models, and what they compute of what they measure."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.claims import (
    bamba_output_length,
    equal_memory,
    hymba_design_speed,
    hymba_designs,
    mamba2_scan,
    mamba_throughput,
)
from benchmarks.claims.__main__ import CLAIMS, parser, run
from benchmarks.claims.claim import Claim
from benchmarks.claims.decoding import filled, step_seconds
from benchmarks.claims.page import PAGE, page
from benchmarks.claims.progress import Progress
from benchmarks.claims.random_models import WEIGHTS, random_model, small, weight_bytes
from benchmarks.claims.results import result_of, start_of, write_result

from braidlm.errors import InputError
from braidlm.families.presets import preset

TIMED = {claim.name: claim for claim in CLAIMS if claim.timed}
DECODING = ("--steps", "1", "--rounds", "1")
TINY = {
    "hymba-throughput": ("--context", "40", "--memory", "8MiB", "--most", "2", *DECODING),
    "mamba-throughput": ("--context", "40", "--memory", "8MiB", "--most", "2", *DECODING),
    "hymba-designs-throughput": ("--context", "40", "--rows", "2", *DECODING),
    "bamba-output-length": ("--outputs", "64", "128", "--rows", "1", *DECODING),
    "mamba2-scan": (),
}


def tiny_arguments(name: str, place: Path) -> list[str]:
    models = [] if name == "mamba2-scan" else ["--models", str(place / "models")]
    return [name, "--tiny", "--results", str(place), *models, *TINY[name]]


def test_every_timed_claim_has_a_tiny_run() -> None:
    """Oracle: the claims."""
    assert set(TINY) == set(TIMED)


@pytest.mark.parametrize("claim", TIMED.values(), ids=lambda claim: claim.name)
def test_command_goes_on_where_it_was(claim: Claim, tmp_path: Path) -> None:
    """Oracle: the first run, whose numbers a second one would not measure again; and the page of its result."""
    arguments = tiny_arguments(claim.name, tmp_path)
    given = parser().parse_args(arguments)
    found: list[Any] = []
    for _ in range(2):
        said: list[str] = []
        found.append(claim.find(given, Progress(tmp_path / "progress.json", {"tiny": True}, said.append)))
        assert bool(said) == (len(found) == 1)
    assert found[0] == found[1]
    write_result(tmp_path, claim, result_of(claim, arguments[1:], found[0], start_of(1, 0.0)))
    made = page([claim], tmp_path)
    assert "| published | ours | conditions | why different |" in made and "commit" in made
    assert not re.search(r"\b1 (sequences|rounds)\b", made)
    for row in claim.rows(found[0]):
        assert f"| {row.published} | {row.ours} |" in made


def test_tiny_run_is_not_kept(tmp_path: Path) -> None:
    """Oracle: the files before it: no result, and the page as it was."""
    before = PAGE.read_bytes()
    assert run(tiny_arguments("mamba2-scan", tmp_path)) == 0
    assert PAGE.read_bytes() == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["hymba-1.5b", "bamba-9b", "llama-3.1-8b", "mamba-1.4b"])
def test_states_are_as_large_as_after_a_prompt(name: str, tmp_path: Path) -> None:
    """Oracle: `ModelSpec.state_bytes`, and no memory that two sequences share."""
    spec = small(preset(name).spec)
    model = random_model(name, spec, "int4", tmp_path)
    for tokens, kv_dtype in ((3, "bfloat16"), (300, "int8")):
        states = filled(model, tokens, 2, kv_dtype)
        for state in states:
            held = sum(layer.nbytes for layer in state.layers)
            assert held == spec.state_bytes(tokens, dtype="bfloat16", kv_dtype=kv_dtype)
            assert state.length == tokens
        one, other = (
            {page.k.data.data_ptr() for layer in state.layers if layer.kv for page in layer.kv.pages}
            for state in states
        )
        assert one.isdisjoint(other)
    assert step_seconds(model, 20, 2, 1, "bfloat16") > 0


@pytest.mark.parametrize("weights", WEIGHTS)
def test_random_weights_are_what_is_planned(weights: str, tmp_path: Path) -> None:
    """Oracle: `footprint.weight_bytes`, and the deviation 1/sqrt(inputs) of unquantized random weights."""
    spec = small(preset("mamba-1.4b").spec)
    model = random_model("x", spec, weights, tmp_path)
    assert sum(weight.nbytes for weight in model.network.state_dict().values()) == weight_bytes(spec, weights)
    projection = model.network.get_submodule("blocks.0.mixer.in_proj").weight
    values = projection.float() if weights == "bf16" else projection.dequantize().float()
    assert values.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert random_model("x", spec, weights, tmp_path).spec == spec  # from the files


def test_refitted_shape_is_another_model(tmp_path: Path) -> None:
    """Oracle: the spec that is asked for, under the name of another one that is on disk."""
    spec = small(preset("mamba-1.4b").spec)
    for asked in (spec, replace(spec, vocab=128), spec):
        assert random_model("x", asked, "bf16", tmp_path).spec == asked


def test_tiny_scan_is_small() -> None:
    """Oracle: sizes beside those that the command has without `--tiny`."""
    usual, tiny = (parser().parse_args(["mamba2-scan", *more]) for more in ([], ["--tiny"]))
    found = mamba2_scan.find(tiny, Progress(None, {}, print))
    assert 8 * found["width"] <= usual.width
    assert 8 * max(map(int, found["by_length"])) <= min(usual.lengths)


@pytest.mark.parametrize("option", ["--most", "--steps", "--rounds", "--context", "--threads"])
def test_number_of_nothing_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the exit code and the option's name."""
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["hymba-throughput", option, "0"])
    assert f"{option}: '0' is no whole number from 1 on" in capsys.readouterr().err


def test_rows_that_fit() -> None:
    """Oracle: weights and states of so many sequences are within the memory, and of one more are not."""
    spec = mamba_throughput.transformer()
    given = parser().parse_args(["mamba-throughput", "--memory", "6GiB", "--most", "1000"])
    rows = equal_memory.rows_that_fit(spec, given)
    one = spec.state_bytes(given.context + given.steps + 1, dtype="bfloat16")
    assert weight_bytes(spec, "int4") + rows * one <= 6 << 30 < weight_bytes(spec, "int4") + (rows + 1) * one
    with pytest.raises(InputError, match="holds no sequence"):
        equal_memory.rows_that_fit(spec, parser().parse_args(["mamba-throughput", "--memory", "1GiB"]))
    given = parser().parse_args(["bamba-output-length", "--most-bytes", "1e6"])
    with pytest.raises(InputError, match="holds no sequence"):
        bamba_output_length.find(given, Progress(None, {}, print))


def test_throughput_at_equal_memory() -> None:
    """Oracle: by hand: each side at its best number of sequences; 6 / 3 and 8 / 2 in the two rounds."""
    found = {"rates": {"a": {"1": [2.0, 2.0], "4": [6.0, 8.0]}, "b": {"1": [3.0, 2.0]}}}
    assert equal_memory.ratio(found) == "3.00x (2.00-4.00)"
    assert "4 sequences of a have 3.5 times" in equal_memory.gain(found)
    assert "of b" not in equal_memory.gain(found)


def test_seconds_of_an_answer() -> None:
    """Oracle: by hand: areas under straight lines between the contexts."""
    contexts, seconds = [100, 200, 400], [1.0, 2.0, 6.0]
    assert bamba_output_length.seconds_of_answer(contexts, seconds, 50) == pytest.approx(50 * 1.25)
    assert bamba_output_length.seconds_of_answer(contexts, seconds, 100) == pytest.approx(150)
    assert bamba_output_length.seconds_of_answer(contexts, seconds, 200) == pytest.approx(150 + 100 * 3)
    with pytest.raises(InputError, match="was measured up to 400"):
        bamba_output_length.seconds_of_answer(contexts, seconds, 301)


def test_order_of_throughput() -> None:
    """Oracle: the published order by hand, and Spearman's correlation of a few orders."""
    published = {design.name: design.tokens_per_second for design in hymba_designs.designs() if design.build}
    assert hymba_design_speed.order(published) == ["1", "7", "10", "9", "13", "8", "5", "6"]
    for other, expected in (("abcd", 1), ("dcba", -1), ("bacd", 0.8)):
        assert hymba_design_speed.rank_correlation(list("abcd"), list(other)) == pytest.approx(expected)
