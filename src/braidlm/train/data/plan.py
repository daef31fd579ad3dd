"""Plan of a build: tasks, one for each shard, that depend on the sources alone and not on the processes."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from . import hub
from .manifest import SourceInfo
from .recipe import Recipe
from .sources import Slice, SourceFile, find_files, read_file
from .worker import Task


class Plan(NamedTuple):
    """Plan of a build.

    weight: of all tasks, in bytes of files or rows of datasets. skips: what is wrong with files that are left out.
    """

    sources: tuple[SourceInfo, ...]
    tasks: Iterable[Task]
    weight: int
    skips: tuple[str, ...]


def plan(sources: Sequence[str | Path], recipe: Recipe, size: int) -> Plan:
    """Tasks that make shards of about `size` bytes of the sources."""
    if not sources:
        raise InputError("there are no sources; name files, directories or a dataset")
    if recipe.kind == "dataset":
        return _plan_datasets([str(source) for source in sources], recipe, size)
    files = [read_file(path, number, recipe, size) for number, path in enumerate(find_files(sources, recipe.kind))]
    skips = tuple(f"{file.name}: {file.problem}" for file in files if file.problem)
    if skips and recipe.on_bad_documents == "error":
        raise InputError(skips[0])
    infos = tuple(SourceInfo(name=file.name, unit=file.unit, size=file.size, sha256=file.sha256) for file in files)
    tasks = tuple(_tasks(files, size))
    return Plan(infos, tasks, sum(task.weight for task in tasks), skips)


def _tasks(files: Sequence[SourceFile], size: int) -> Iterator[Task]:
    """Tasks for the slices of files, in order, about `size` bytes each."""
    slices: list[Slice] = []
    weight = number = 0
    for file in files:
        for part, bytes_ in file.slices:
            slices.append(part)
            weight += bytes_
            if weight >= size:
                yield Task(number, tuple(slices), weight)
                slices, weight, number = [], 0, number + 1
    if slices:
        yield Task(number, tuple(slices), weight)


def _plan_datasets(names: Sequence[str], recipe: Recipe, size: int) -> Plan:
    found = [hub.open_dataset(name, recipe) for name in names]
    infos = tuple(SourceInfo(name=dataset.name, unit="row", size=0, sha256=dataset.version) for dataset in found)
    return Plan(infos, hub.tasks(found, recipe, size), sum(dataset.rows for dataset in found), ())
