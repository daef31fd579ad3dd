"""What the README shows runs as it stands."""

import re
import tomllib
from pathlib import Path

import pytest

from braidlm import families
from braidlm.families.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_python_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: the example runs from beginning to end, and France's capital is in what it prints."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"## In Python\n\n```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})  # our own text
    assert "Paris" in capsys.readouterr().out


def test_names_in_the_documents_exist() -> None:
    """Oracle: the files, presets and families that are there."""
    for document in (README, (ROOT / "docs" / "design.md").read_text()):
        for link in re.findall(r"\]\(([^)#]+)\)", document):
            assert (ROOT / link).exists() or (ROOT / "docs" / link).exists(), link
        for name in re.findall(r"`((?:\w+/)+(?:[\w.]+\.(?:py|cpp|h))?)`", document):
            assert any((base / name).exists() for base in (ROOT, ROOT / "src" / "braidlm", ROOT / "src")), name
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
