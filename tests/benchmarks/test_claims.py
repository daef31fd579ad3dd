"""Published claims: the page is what its results make, and what bytes decide is found again."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.claims import __main__ as command
from benchmarks.claims import cache_bytes, granite_sessions, hymba_cache, hymba_designs, stripedhyena_training
from benchmarks.claims.__main__ import CLAIMS, parser, run
from benchmarks.claims.claim import Claim, Found, no_tables
from benchmarks.claims.numbers import counted, positive
from benchmarks.claims.page import PAGE, page
from benchmarks.claims.progress import Progress
from benchmarks.claims.results import COMMITTED, progress_file, read_result, result_file, result_of, shown_arguments

from braidlm.errors import InputError
from braidlm.families.presets import PRESETS, preset
from braidlm.planner import probe

EXACT = [claim for claim in CLAIMS if not claim.timed]
TIMED = next(claim for claim in CLAIMS if claim.timed)
MACHINE = {"processor": "P", "instructions": [], "cores": 2, "memory": 2**34, "torch": "2"}


def test_page_is_made_of_the_results() -> None:
    """Oracle: the generator, on the committed results."""
    assert PAGE.read_text(encoding="utf-8") == page(CLAIMS), "run `python -m benchmarks.claims --page`"


@pytest.mark.parametrize("claim", EXACT, ids=lambda claim: claim.name)
def test_bytes_are_found_again(claim: Claim) -> None:
    """Oracle: the committed result; it depends on neither machine nor day."""
    given = parser().parse_args([claim.name])
    found = claim.find(given, Progress(None, {}, print))
    assert result_of(claim, [], found) == read_result(COMMITTED, claim)


@pytest.mark.parametrize("name", ["hymba-1.5b", "llama-3.2-3b", "mamba-130m"])
def test_parts_are_all_that_is_held(name: str) -> None:
    """Oracle: `ModelSpec.state_bytes`, which a state's `nbytes` equals."""
    assert name in PRESETS
    spec = preset(name).spec
    for tokens in (1, 1000, cache_bytes.HELD_TOKENS):
        assert sum(cache_bytes.held(spec, tokens).values()) == spec.state_bytes(tokens, dtype="float16")


def test_ratio_of_hymba() -> None:
    """Oracle: the published ratio, within 10% as braidlm holds it, and to its last digit as the paper counts."""
    found = read_result(COMMITTED, hymba_cache.CLAIM)["found"]
    hymba, llama = found["Hymba-1.5B"], found["Llama-3.2-3B"]
    assert llama["held_bytes"] / hymba["held_bytes"] == pytest.approx(11.67, rel=0.1)
    counted = [sum(item["counted"].values()) for item in (hymba, llama)]
    assert [round(count / 1e6) for count in counted] == [79, 918]
    assert counted[1] / counted[0] == pytest.approx(11.67, abs=0.005)


@pytest.mark.parametrize("design", hymba_designs.designs(), ids=lambda design: design.name.split(")")[0])
def test_designs_have_the_published_bytes(design: hymba_designs.Design) -> None:
    """Oracle: the published cache, to its last digit; and the size that the paper names."""
    counted = design.cache.counted(tails=design.counts_tails)
    assert sum(counted.values()) / 1e6 == pytest.approx(design.megabytes, abs=0.00501)
    if design.build is not None:
        spec = design.build()
        assert cache_bytes.cache_of(spec) == design.cache
        assert hymba_designs.footprint.size(spec).total == pytest.approx(hymba_designs.PARAMETERS, rel=0.02)


def test_sessions_of_granite() -> None:
    """Oracle: by hand: weights of 6 and 2, sessions of 1 and 10; 1 - 8 / 22 with two of them."""
    item = {"tiny": {"weights": 6, "session": 1}, "other": {"weights": 2, "session": 10}}
    assert granite_sessions.reduction(item, 2) == pytest.approx(1 - 8 / 22)
    assert granite_sessions.fitting(item["tiny"], 8.5) == 2 and granite_sessions.fitting(item["tiny"], 5) == 0


def test_measured_table_is_read() -> None:
    """Oracle: the tables as written here; the second one of a section belongs to others."""
    text = "## A\n\nWords.\n\n| x | y |\n| --- | --- |\n| 1,0 | +2% |\n\n| z |\n| --- |\n| 3 |\n\n## B\n"
    section = stripedhyena_training.section_of(text, "## A")
    assert stripedhyena_training.first_table(section) == [{"x": "1,0", "y": "+2%"}]
    for heading in ("## B", "## C"):
        with pytest.raises(InputError, match="no section"):
            stripedhyena_training.first_table(stripedhyena_training.section_of(text, heading))


def test_conditions_of_the_measurement_are_read() -> None:
    """Oracle: the paragraph as written here; and another one, which says none, is refused."""
    section = "\n`python -m x`, 2026-01-02, two cores\nof a P: 3 rounds to 8,\none beyond (`--slow`).\n\n| x |\n"
    assert stripedhyena_training.measured(section) == {
        "command": "python -m x",
        "date": "2026-01-02",
        "machine": "two cores of a P",
        "conditions": "3 rounds to 8, one beyond (`--slow`).",
    }
    with pytest.raises(InputError, match="begins with"):
        stripedhyena_training.measured("\nWords.\n")


def test_copied_measurement_says_its_conditions() -> None:
    """Oracle: what docs/benchmarks.md names for these lines; and that it has none of the longest length."""
    rows = stripedhyena_training.rows(read_result(COMMITTED, stripedhyena_training.CLAIM)["found"])
    for row, length in zip(rows, ("32,768", "65,536", "131,072"), strict=True):
        assert row.published.startswith(length)
    for row in rows[:2]:
        for said in ("2026-", "Intel Xeon with AVX-512 and AMX", "--activation-checkpointing", "BRAIDLM_MALLOC=0"):
            assert said in row.conditions
    assert rows[2].ours == "not measured"


def test_claims_without_a_result_show_no_figure(tmp_path: Path) -> None:
    """Oracle: an empty directory; every claim is listed with its command and has no table."""
    made = page(CLAIMS, tmp_path)
    assert all(f"`python -m benchmarks.claims {claim.name}`" in made for claim in CLAIMS)
    assert "| published |" not in made


def test_every_result_belongs_to_a_claim() -> None:
    """Oracle: the claims; a result that no claim reads is on no page."""
    files = {result_file(COMMITTED, claim) for claim in CLAIMS}
    assert set(COMMITTED.glob("*.json")) - {progress_file(COMMITTED, claim) for claim in CLAIMS} <= files
    for file in files:
        if file.exists():
            assert json.loads(file.read_text())["claim"] == file.stem


def test_places_of_files_are_not_shown() -> None:
    """Oracle: by hand: options of places in both spellings, among others."""
    given = ["--models", "/x", "--rounds", "3", "--results=/y", "--threads", "2", "--models"]
    assert shown_arguments(given) == ["--rounds", "3", "--threads", "2"]


def test_measurement_goes_on(tmp_path: Path) -> None:
    """Oracle: how often a piece is measured: once for the same settings, anew for others."""
    file, measured = tmp_path / "x.json", []

    def measure() -> int:
        measured.append(len(measured))
        return measured[-1]

    assert Progress(file, {"rounds": 1}, print).piece("a", measure) == 0
    again = Progress(file, {"rounds": 1}, print)
    assert again.has("a") and again.piece("a", measure) == 0 and measured == [0]
    assert Progress(file, {"rounds": 2}, print).piece("a", measure) == 1
    again.remove()
    assert not file.exists()


def test_arguments_before_the_command_are_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: the page shows the command's name itself, and then what stands behind it."""
    monkeypatch.setattr(command, "PAGE", tmp_path / "claims.md")
    assert run(["--page", "hymba-cache", "--results", str(tmp_path)]) == 0
    assert read_result(tmp_path, hymba_cache.CLAIM)["arguments"] == []


def test_continued_measurement_keeps_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: busy share and commit of the first start; the commit of the end, and both on the page."""
    fails = True

    def find(given: argparse.Namespace, progress: Progress) -> Found:
        if fails:
            raise InputError("stopped")
        return {}

    claim = replace(TIMED, find=find, rows=lambda found: [], tables=no_tables)
    monkeypatch.setattr(command, "CLAIMS", (claim,))
    for busy, commit in ((0.25, "aaa"), (0.75, "bbb")):
        monkeypatch.setattr(probe, "busy_share", lambda busy=busy: busy)
        monkeypatch.setattr(probe, "machine", lambda commit=commit: MACHINE | {"commit": commit})
        if fails:
            with pytest.raises(InputError, match="stopped"):
                run([claim.name, "--results", str(tmp_path)])
            fails = False
        else:
            assert run([claim.name, "--results", str(tmp_path)]) == 0
    result = read_result(tmp_path, claim)
    assert (result["machine"]["busy"], result["machine"]["commit"], result["ended"]["commit"]) == (0.25, "aaa", "bbb")
    made = page([claim], tmp_path)
    assert "commit aaa" in made and "took 25% of" in made and "ended on" in made and "commit bbb" in made
    assert not progress_file(tmp_path, claim).exists()


def test_numbers_of_things() -> None:
    """Oracle: English; and whole numbers from 1 on alone."""
    assert [counted(count, "sequence") for count in (1, 2)] == ["1 sequence", "2 sequences"]
    assert positive("12") == 12
    for text in ("0", "-1", "x", "1.5", "²"):
        with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
            positive(text)
