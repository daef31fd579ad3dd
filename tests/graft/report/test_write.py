"""Files of a report: what the stages have left is in them, the page stands alone, and a missing thing is said."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from braidlm.cli import graft_report
from braidlm.errors import CheckpointError
from braidlm.graft.report.facts import facts
from braidlm.graft.report.measure import measure
from braidlm.graft.report.plots import Axis, Bar, Line, Scale, bar_plot, line_plot
from braidlm.graft.report.subjects import TITLES
from braidlm.graft.report.write import rewrite, write, write_card
from tests.graft.report.subjects import SMALL, finished_stages, small_subjects, small_texts
from tests.server.browsing import chromium, needs_chromium


class _Page(HTMLParser):
    """Reader of a page that holds every element to its end, and gathers text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.addresses = list[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing is left open."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Facts of a small graft, all parts measured."""
    out, subjects = tmp_path_factory.mktemp("graft") / "small", small_subjects()
    measured = measure(subjects, small_texts(subjects.donor), SMALL, out / "measured.json")
    return facts(finished_stages(out, subjects.donor), [0], subjects.graft.spec, measured)


def _read(place: Path) -> tuple[str, _Page]:
    source, page = place.read_text(), _Page()
    page.feed(source)
    page.close()
    assert page.open == []
    return source, page


def test_facts_are_what_the_stages_left(made: dict[str, Any]) -> None:
    """Oracle: the logs and results as they were written."""
    align, distil = made["stages"]
    assert (align["stage"], align["steps"], align["tokens"], align["seconds"]) == ("align", 3, 96, 1.5)
    assert align["curves"]["loss"] == [[32, 1.0], [64, 0.5], [96, 1 / 3]] and "block_0" not in align["curves"]
    assert align["evaluations"]["eval_block_1"] == [[32, 0.25], [64, 0.125], [96, 0.25 / 3]]
    assert distil["curves"]["kl"] == [[32, 0.75], [64, 0.75], [96, 0.75]]
    first, second = made["blocks"]
    assert (first["replaced"], first["error"], first["worth"]) == (True, 0.125, 0.25)
    assert first["candidate"] == "window of 8 beside mamba2" and first["lost"]["recall"] == -0.5
    assert second["why"] == "by the probe, rank 1 of 2"
    assert set(made["initial"]) == {"parallel"}
    assert made["all_replaced"]["perplexity"] == 0.125
    assert made["recipe"]["align"]["patience"] == 3, "settings at their defaults are there too"


def test_the_page_stands_alone(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: the grammar of HTML and of XML for the plots; no address at all; every model's title and prompt."""
    write(made, tmp_path)
    source, page = _read(tmp_path / "report.html")
    assert page.addresses == [] and not re.search(r"https?:|@import|url\(|<script", source)
    text = " ".join(page.text)
    for title in TITLES.values():
        assert title in text
    assert "not made for this report" in text and "declares" in text
    plots = re.findall(r"<svg viewBox=\"0 0 560 .*?</svg>", source)
    assert len(plots) == 5 + 3 + 4
    for plot in plots:
        places = [
            float(value) for value in re.findall(r"[xy]1?=\"(-?[\d.]+)\"", ElementTree.tostring(_tree(plot)).decode())
        ]
        assert all(0 <= place <= 560 for place in places)


def _tree(plot: str) -> ElementTree.Element:
    return ElementTree.fromstring(plot)


def test_summary(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: ratios of what was measured, by hand; without a trained donor there is none."""
    write(made, tmp_path)
    found = {one["name"]: one for one in json.loads((tmp_path / "report.json").read_text())["summary"]}
    text, state = made["measured"]["text"], made["measured"]["state"]
    expected = text["graft"]["perplexity"] / text["donor"]["perplexity"]
    assert found["perplexity against the donor"]["value"] == expected
    assert found["next-token agreement"]["value"] == text["graft"]["agreement"]
    assert found["state at 200 tokens"]["value"] == state["donor"][0]["bytes"] / state["graft"][0]["bytes"] > 1
    trained = found["perplexity against the trained donor"]
    assert (trained["value"], trained["text"]) == (None, "not measured")


def test_parts_that_were_not_measured(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: a page all the same, which says so."""
    titles = made["measured"]["subjects"]
    write({**made, "stages": [], "measured": {"subjects": titles}}, tmp_path)
    _, page = _read(tmp_path / "report.html")
    assert page.text.count("not measured") == 9 and "It was not trained." in " ".join(page.text)


def test_numbers_that_are_not_finite(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: a page and JSON without NaN for a graft that has diverged."""
    broken = {"perplexity": None, "divergence": None, "agreement": 0.0, "tokens": 78, "buckets": []}
    text = {**made["measured"]["text"], "graft": broken}
    blocks = [{**block, "error": float("nan")} for block in made["blocks"]]
    write({**made, "blocks": blocks, "measured": {**made["measured"], "text": text}}, tmp_path)
    assert "NaN" not in (tmp_path / "report.json").read_text()
    _read(tmp_path / "report.html")


def test_texts_are_escaped(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: what a model writes is text, whatever it looks like."""
    answer = {"answers": [{"prompt": "<b>", "answer": "</pre><script src=x>"}]}
    write({**made, "measured": {**made["measured"], "answers": dict.fromkeys(("donor", "graft"), answer)}}, tmp_path)
    source, page = _read(tmp_path / "report.html")
    assert "<script" not in source and "</pre><script src=x>" in page.text


def test_the_page_is_written_again(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: the same bytes from report.json alone; a report that is not there or not one is refused."""
    write(made, tmp_path)
    before = [(tmp_path / name).read_bytes() for name in ("report.json", "report.html")]
    (tmp_path / "report.html").unlink()
    assert rewrite(tmp_path)[0] == tmp_path / "report.html"
    assert [(tmp_path / name).read_bytes() for name in ("report.json", "report.html")] == before
    with pytest.raises(CheckpointError, match=r"has no report\.json"):
        rewrite(tmp_path / "none")
    (tmp_path / "report.json").write_text('{"name": 1}')
    with pytest.raises(CheckpointError, match="not a report of this version"):
        rewrite(tmp_path)


def test_card(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: donor, blocks, stages, the summary's figures and the licence are there."""
    write_card(made, tmp_path)
    card = (tmp_path / "README.md").read_text()
    for part in ("`small`", "1 of 2 blocks: window of 8 beside mamba2 in 0", "3 steps, 96 tokens", "donor's licence"):
        assert part in card
    agreement = made["measured"]["text"]["graft"]["agreement"]
    assert f"| next-token agreement | {agreement:.1%} |" in card


def test_command(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: the summary of report.json on standard output, and the page where it was."""
    write(made, tmp_path)
    (tmp_path / "report.html").unlink()
    app = typer.Typer()
    app.command()(graft_report.command)
    plain, data = (CliRunner().invoke(app, [str(tmp_path), *options]).stdout for options in ((), ("--json",)))
    summary = json.loads((tmp_path / "report.json").read_text())["summary"]
    assert json.loads(data)["summary"] == summary and (tmp_path / "report.html").exists()
    assert plain.splitlines()[:2] == [f"{one['name']}: {one['text']}" for one in summary[:2]]


def test_scales() -> None:
    """Oracle: by hand: round ticks that enclose the values; powers where the ratio of the ends is large enough."""
    assert Scale(Axis("x"), [0.13, 0.48], 0, 1).ticks == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert Scale(Axis("x", zero=True), [3.0, 3.0], 0, 1).ticks[0] == 0
    assert Scale(Axis("x", log=True), [0.5, 2000.0], 0, 1).ticks == [1, 10, 100, 1000]
    assert Scale(Axis("x", log=True), [20.0, 30.0], 0, 1).ticks[0] == 20
    made = Scale(Axis("x", log=True), [10.0, 1000.0], 0, 2)
    assert made.place(100.0) == pytest.approx(1.0)
    zero = [Bar("0", "graft", 0.0)]
    assert bar_plot("t", "x", Axis("y"), zero, ()) == "" == line_plot("t", Axis("x"), Axis("y"), [Line("n", "s", [])])


@needs_chromium
def test_the_page_in_a_browser(made: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: on a phone nothing but tables moves sideways; dark where the reader's computer is; every plot is seen."""
    write(made, tmp_path)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.goto((tmp_path / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert int(red) < 64
        sizes = page.evaluate("[...document.querySelectorAll('figure > svg')].map(one => one.clientHeight)")
        assert len(sizes) == 12 and min(sizes) > 100
