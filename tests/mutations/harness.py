"""Cases of a kind, one after the other: a copy of the valid files, one damage, one verdict."""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from . import models_kinds, run_kinds, text_kinds
from .kind import Kind
from .mutators import BYTES, PLACES
from .structured import mutate
from .verdicts import FAULT, Read, Verdict, judge, read_apart

KINDS = {kind.name: kind for kind in (*models_kinds.KINDS, *text_kinds.KINDS, *run_kinds.KINDS)}


class Case(NamedTuple):
    """A damage: to which file, by what, and what came of it."""

    number: int
    file: str
    damage: str
    verdict: Verdict


class _Built(NamedTuple):
    place: Path
    files: list[str]
    result: str


def cases(kind: Kind, seed: int, numbers: range) -> Iterator[Case]:
    """The verdict of each case; the valid files are built once, and must be read the same twice."""
    torch.set_num_threads(1)  # processes with several threads cannot be forked
    with tempfile.TemporaryDirectory(prefix="braidlm-mutations-") as name:
        built = _build(kind, Path(name) / "intact")
        for number in numbers:
            place = Path(name) / "case"
            yield _case(kind, built, place, random.Random(f"{kind.name} {seed} {number}"), number)
            shutil.rmtree(place)


def _build(kind: Kind, place: Path) -> _Built:
    place.mkdir()
    made = read_apart(lambda: _done(kind.build, place), 120)
    assert isinstance(made, Read) and not made.error, made
    results = []
    for number in range(2):
        copy = place.with_name(f"copy{number}")
        shutil.copytree(place, copy)
        read = read_apart(lambda: kind.read(copy), 60)  # noqa: B023 (called at once)
        assert isinstance(read, Read) and read.result, read
        results.append(read.result)
        shutil.rmtree(copy)
    assert results[0] == results[1], f"{kind.name} is not read the same twice"
    files = sorted({str(file.relative_to(place)) for pattern in kind.files for file in place.glob(pattern)})
    assert files, f"{kind.name} has no files"
    return _Built(place, files, results[0])


def _done(build: Callable[[Path], None], place: Path) -> str:
    build(place)
    return ""


def _case(kind: Kind, built: _Built, place: Path, rng: random.Random, number: int) -> Case:
    shutil.copytree(built.place, place)
    name = rng.choice(built.files)
    file = place / name
    intact = file.read_bytes()
    damage = _damage(file, rng)
    changed = file.read_bytes() if file.is_file() else None
    lawful = changed is not None and kind.lawful(name, intact, changed)
    verdict = judge(read_apart(lambda: kind.read(place)), built.result, lawful)
    return Case(number, name, damage, verdict)


def _damage(file: Path, rng: random.Random) -> str:
    """Damages a file, and says how."""
    if rng.random() < 0.12:
        place = rng.choice(PLACES)
        place(file)
        return place.__name__.strip("_")
    raw = file.read_bytes()
    if rng.random() < 0.6 and (changed := mutate(file.suffix, raw, rng)) is not None:
        file.write_bytes(changed)
        return "structure"
    change = rng.choice(BYTES)
    file.write_bytes(change(raw, rng) if raw else b"x")
    return change.__name__.strip("_")


def table(counts: dict[str, Counter[str]]) -> str:
    """Verdicts of each kind as lines of text."""
    words = ("refused", "equal", "different-legit", FAULT)
    lines = [f"{'kind':<12}{'cases':>8}" + "".join(f"{word:>17}" for word in words)]
    for name, found in counts.items():
        lines.append(f"{name:<12}{found.total():>8}" + "".join(f"{found[word]:>17}" for word in words))
    return "\n".join(lines)
