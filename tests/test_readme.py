"""What the documents show: the README's example runs as it stands, files and names exist."""

import re
import tomllib
from pathlib import Path

import pytest

from braidlm import families
from braidlm.families.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
# Made by the worked examples of CONTRIBUTING.md, and by a run of training.
MADE = ("ops/softcap/", "server/count.py", "tensorboard/")


def test_python_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: the example runs from beginning to end, and France's capital is in what it prints."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"## In Python\n\n```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})  # our own text
    assert "Paris" in capsys.readouterr().out


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_in_the_documents_exist(document: Path) -> None:
    """Oracle: the files that are there; but for those that a worked example or a run makes."""
    prose = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        assert "://" in link or (document.parent / link).exists(), link
    bases = (ROOT, ROOT / "src", ROOT / "src" / "braidlm", ROOT / "src" / "braidlm" / "ops")
    for name in re.findall(r"`((?:[\w.]+/)+(?:[\w.]+\.(?:py|cpp|h|md|toml))?)`", prose):
        assert name.startswith(MADE) or any((base / name).exists() for base in bases), name


def test_families_in_the_readme() -> None:
    """Oracle: the families and presets that are there."""
    for family in families.families():
        for kind in family.model_types:
            assert f"`{kind}`" in README
    assert "hymba-1.5b" in PRESETS


def test_extras_can_be_had_from_a_clone() -> None:
    """Oracle: pyproject.toml's extras; nothing has been released, so `pip install braidlm[...]` would find nothing."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py")]
    text = "\n".join(file.read_text() for file in files)
    assert "braidlm[" not in text
    named = {name for found in re.findall(r"'\.\[([\w,]+)\]'", text) for name in found.split(",")}
    assert {"serve", "ray", "train", "test", "dev"} <= named <= extras
    needed = set(re.findall(r'not_installed\(.*, "(\w+)"\)', text))
    assert {"serve", "ray", "grammar", "train"} <= needed <= extras
