"""Settings that are described once: their checks, their words, and their values in files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from braidlm.errors import InputError
from braidlm.system.setting_files import read_settings, with_values
from braidlm.system.settings import Setting, check_settings, settings_of
from braidlm.system.units import bytes_of, bytes_text


@dataclass(frozen=True, kw_only=True)
class Garden:
    """Settings of every type that there is."""

    beds: Annotated[int, Setting("Number of beds.", least=1, most=8)]
    shade: Annotated[float, Setting("Share of shade.", least=0, below=1)] = 0.25
    height: Annotated[float, Setting("Height in metres.", above=0)] = 2.0
    store: Annotated[int, Setting("Room of the store.", least=1, in_bytes=True)] = 1 << 30
    soil: Annotated[Literal["clay", "sand"], Setting("Kind of the soil.")] = "clay"
    plants: Annotated[tuple[str, ...], Setting("Plant; may be repeated.", name="plant")] = ()
    paths: Annotated[Mapping[str, Path], Setting("Path by its name.", name="path")] = field(default_factory=dict)
    plan: Annotated[Path | None, Setting("Plan of the garden.", unset="drawn anew")] = None
    even: Annotated[int, Setting("An even number.", valid=lambda value: value % 2 == 0, right="an even number")] = 2
    open: Annotated[bool, Setting("Whether it is open.")] = False
    undescribed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, "garden")


def test_right_values() -> None:
    """Oracle: by hand; bounds are right themselves where they are included, and whole numbers are numbers."""
    Garden(beds=1, shade=0, height=1e-9, soil="sand", plants=("rose",), plan=None, even=0, open=True)
    Garden(beds=8, shade=0.999, height=3, paths={"gravel": Path("here")}, plan=Path("plan"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"beds": 0}, "garden.beds is 0, but must be from 1 to 8"),
        ({"beds": 9}, "garden.beds is 9, but must be from 1 to 8"),
        ({"beds": 2.0}, "garden.beds is 2.0, but must be a whole number, from 1 to 8"),
        ({"beds": True}, "garden.beds is True, but must be a whole number, from 1 to 8"),
        ({"beds": None}, "garden.beds is None, but must be a whole number, from 1 to 8"),
        ({"shade": 1}, "garden.shade is 1, but must be from 0 to below 1"),
        ({"shade": float("nan")}, "garden.shade is nan, but must be from 0 to below 1"),
        ({"height": 0.0}, "garden.height is 0.0, but must be above 0"),
        ({"height": "2"}, "garden.height is '2', but must be above 0"),
        ({"store": 0}, "garden.store is 0, but must be 1 or more"),
        ({"soil": "peat"}, "garden.soil is 'peat', but must be one of 'clay', 'sand'"),
        ({"plants": ("rose", 1)}, "garden.plants is ['rose', 1], but must be a list of texts"),
        ({"plants": "rose"}, "garden.plants is 'rose', but must be a list of texts"),
        ({"plan": "plan"}, "garden.plan is 'plan', but must be a path"),
        ({"even": 3}, "garden.even is 3, but must be an even number"),
        ({"open": 1}, "garden.open is 1, but must be true or false"),
    ],
)
def test_wrong_values(values: dict[str, Any], sentence: str) -> None:
    """Oracle: the sentence, which names the setting, its value and what would be right."""
    with pytest.raises(InputError) as caught:
        Garden(**{"beds": 1, **values})
    assert str(caught.value) == sentence


def test_names_and_defaults() -> None:
    """Oracle: by hand; a field without a description is no setting."""
    found = settings_of(Garden)
    assert list(found) == ["beds", "shade", "height", "store", "soil", "plant", "path", "plan", "even", "open"]
    told = {name: item.default_text for name, item in found.items()}
    assert (told["beds"], told["store"], told["plan"], told["open"]) == ("", "1GiB", "drawn anew", "")


def written(directory: Path, text: str) -> Path:
    file = directory / "garden.toml"
    file.write_text(text)
    return file


def test_values_in_a_file(tmp_path: Path) -> None:
    """Oracle: by hand; paths are relative to the file, and an amount of memory may have a unit."""
    text = 'beds = 3\nstore = "2MiB"\nplant = ["rose"]\nplan = "drawn/plan"\nopen = true\n[path]\ngravel = "g"\n'
    values = read_settings(written(tmp_path, text), [Garden])
    made = Garden(**with_values(Garden, values))
    places = {"plan": tmp_path / "drawn/plan", "paths": {"gravel": tmp_path / "g"}}
    assert made == Garden(beds=3, store=2 << 20, plants=("rose",), open=True, **places)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bedds = 3", "has the unknown setting 'bedds'; did you mean 'beds'?"),
        ("xyz = 3", "has the unknown setting 'xyz'; it may have beds, even, "),
        ("plants = []", "has the unknown setting 'plants'; did you mean 'plant'?"),
        ("beds = 0", ": beds is 0, but must be from 1 to 8"),
        ('store = "lots"', ": store is 'lots', but must be an amount of memory: 4GiB"),
        ("plant = 1", ": plant is 1, but must be a list of texts"),
        ('path = "gravel=g"', ": path is 'gravel=g', but must be a table of names and paths"),
        ("path = {gravel = 1}", ": path is {'gravel': 1}, but must be a table of names and paths"),
        ('path = {gravel = ""}', ": path is {'gravel': ''}, but must be a table of names and paths"),
        ("plan = 1", ": plan is 1, but must be a path"),
        ("beds", " is no TOML: "),
        (f"beds = {'[' * 5000}", "nested too deep"),
    ],
)
def test_wrong_files(text: str, words: str, tmp_path: Path) -> None:
    """Oracle: the sentence, which names the file and the key."""
    file = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_settings(file, [Garden])
    assert str(caught.value).startswith(str(file)) and words in str(caught.value)


@pytest.mark.parametrize("text", ["4GiB", "512MiB", "3KiB", "1TiB", "1025", "0"])
def test_bytes_are_read_as_they_are_written(text: str) -> None:
    """Oracle: the text itself."""
    assert bytes_text(bytes_of(text)) == text


@pytest.mark.parametrize(("text", "count"), [("9007199254740993", 2**53 + 1), ("1.5KiB", 1536), ("0.1KiB", 102)])
def test_bytes_are_exact(text: str, count: int) -> None:
    """Oracle: by hand; a float cannot hold 2^53 + 1."""
    assert bytes_of(text) == count


def test_too_many_digits() -> None:
    """Oracle: the sentence; a float of 400 digits is infinite."""
    with pytest.raises(InputError, match="is no amount of memory"):
        bytes_of("9" * 400)


@dataclass(frozen=True, kw_only=True)
class Shed:
    """A setting that messages must not show."""

    codes: Annotated[tuple[str, ...], Setting("Code of the lock.", name="code", secret=True)]

    def __post_init__(self) -> None:
        check_settings(self)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Oracle: the sentence, for a value in a file and for one from Python."""
    file = written(tmp_path, 'code = "s3cret"')
    sentence = "has a wrong value, which is not shown; it must be a list of texts"
    with pytest.raises(InputError) as caught:
        read_settings(file, [Shed])
    assert str(caught.value) == f"{file}: code {sentence}"
    with pytest.raises(InputError) as caught:
        Shed(codes="s3cret")
    assert str(caught.value) == f"codes {sentence}"


def test_a_list_becomes_a_tuple() -> None:
    """Oracle: the same settings with a tuple; what is in a list is checked all the same."""
    assert Garden(beds=1, plants=["rose"]) == Garden(beds=1, plants=("rose",))
    with pytest.raises(InputError, match="plants is \\['rose', 1\\], but must be a list of texts"):
        Garden(beds=1, plants=["rose", 1])


def test_home_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: ~ is the user's directory, wherever the file is."""
    monkeypatch.setenv("HOME", "/home/gardener")
    values = read_settings(written(tmp_path, 'plan = "~/plan"\npath = {gravel = "~/g"}'), [Garden])
    assert values == {"plan": Path("/home/gardener/plan"), "path": {"gravel": Path("/home/gardener/g")}}
