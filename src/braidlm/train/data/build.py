"""Build of a directory of shards: sources are tokenized once.

While it runs, the directory holds a lock and the shards that are whole; a run that was interrupted goes on after them
when it is started again. The manifest comes last: where it is, the data are whole.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ...errors import InputError
from ...system.files import check_free, read_object
from ...system.progress import ProgressFunction
from ...text.tokenizer import Tokenizer
from . import manifest as manifests
from .encoding import Encoder
from .entry import ENTRY, Source
from .manifest import Manifest, ShardSizes, SourceInfo, tokenizer_hash
from .plan import Plan, plan
from .processes import run
from .recipe import Recipe
from .shards import Shards, holdout_mask
from .worker import Job, ShardInfo, Task, file_of, token_dtype

UNFINISHED = "unfinished"
# Bytes of the sources for one shard: large enough that files are few, small enough that an interruption loses little.
SHARD_BYTES = 2**24
_NAMED = 20


def build(
    directory: Path,
    sources: Sequence[str | Path],
    tokenizer: Tokenizer,
    recipe: Recipe,
    *,
    processes: int = 1,
    progress: ProgressFunction | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Shards:
    """Tokenizes `sources` into `directory`, which must not exist, be empty, or hold an interrupted run of the same.

    The result is the same for any number of `processes`. `progress(done, total)` counts bytes of files or rows of a
    dataset. `shard_bytes` is about how much of the sources becomes one shard.
    """
    Encoder(tokenizer, recipe)  # refuses what cannot work before anything is written
    if processes < 1:
        raise InputError(f"processes is {processes}, but must be at least 1")
    _check_directory(directory)
    planned = plan(sources, recipe, shard_bytes)
    with _lock(directory, _run_hash(planned, tokenizer, recipe, shard_bytes)):
        job = Job(directory, tokenizer, recipe, tuple(Source(source.name, source.unit) for source in planned.sources))
        made = _make(planned, job, processes, progress)
        _finish(planned, job, made)
    return Shards(directory, tokenizer)


class _Made(NamedTuple):
    tasks: list[Task]
    infos: list[ShardInfo]


def _make(planned: Plan, job: Job, processes: int, progress: ProgressFunction | None) -> _Made:
    made, weight = _Made([], []), 0
    for task, info in run(planned.tasks, job, processes, lambda task: _whole(job, task)):
        made.tasks.append(task._replace(records=()))
        made.infos.append(info)
        weight += task.weight
        if progress is not None:
            progress(weight, max(planned.weight, weight))
    return made


def _whole(job: Job, task: Task) -> ShardInfo | None:
    """Shard of a task that an interrupted run has left, if it is whole and as this run would make it."""
    try:
        info = ShardInfo(**read_object(file_of(job.directory, task.number, "json"), InputError))
    except (InputError, TypeError):
        return None  # not there, or damaged: it is made again
    as_now = info.key == task.key and (job.recipe.on_bad_documents == "skip" or not info.skipped)
    return info if as_now else None


def _finish(planned: Plan, job: Job, made: _Made) -> None:
    infos, recipe, directory = made.infos, job.recipe, job.directory
    skips = [*planned.skips, *(skip for info in infos for skip in info.skips)]
    skipped = len(planned.skips) + sum(info.skipped for info in infos)
    if not any(info.documents for info in infos):
        for path in directory.glob("[0-9]*.*"):  # nothing to go on with
            path.unlink()
        raise InputError(f"the sources hold no document{f'; the first of {skipped}: {skips[0]}' if skips else ''}")
    hashes = [np.fromfile(file_of(directory, number, "index"), ENTRY)["hash"] for number in range(len(infos))]
    holdout_mask(np.concatenate(hashes), recipe.holdout)
    Manifest(
        version=manifests.VERSION,
        tokenizer=tokenizer_hash(job.tokenizer),
        vocabulary=job.tokenizer.vocab_size,
        dtype=token_dtype(job.tokenizer),
        kind=recipe.kind,
        field=recipe.name_of_field,
        holdout=recipe.holdout,
        tokens=sum(info.tokens for info in infos),
        documents=sum(info.documents for info in infos),
        skipped=skipped,
        skips=tuple(skips[:_NAMED]),
        sources=tuple(_with_rows(number, source, made.tasks) for number, source in enumerate(planned.sources)),
        shards=tuple(ShardSizes(tokens=i.tokens, documents=i.documents, masked=i.masked) for i in infos),
    ).write(directory)
    for path in directory.glob("[0-9]*.*"):  # beyond the last shard: left by an interrupted run over more rows
        if path.suffix == ".json" or int(path.stem) >= len(infos):
            path.unlink()


def _with_rows(number: int, source: SourceInfo, tasks: Sequence[Task]) -> SourceInfo:
    """Source with its hash: that of a dataset is of the rows that came from it."""
    keys = [task.key for task in tasks if task.key and task.source == number]
    if not keys:
        return source
    sha256 = hashlib.sha256("".join(keys).encode()).hexdigest()
    return SourceInfo(name=source.name, unit=source.unit, size=source.size, sha256=sha256)


def _run_hash(planned: Plan, tokenizer: Tokenizer, recipe: Recipe, shard_bytes: int) -> str:
    """Hash of all that shards depend on; they do not depend on `on_bad_documents` and `holdout`."""
    asked = {key: value for key, value in asdict(recipe).items() if key not in ("on_bad_documents", "holdout")}
    sources = [asdict(source) for source in planned.sources]
    facts = [asked, sources, tokenizer_hash(tokenizer), tokenizer.chat_template, shard_bytes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_directory(directory: Path) -> None:
    if (directory / manifests.FILE).exists():
        raise InputError(f"{directory} holds finished data already; choose another place or remove it first")
    if not (directory / UNFINISHED).exists():
        check_free(directory)


@contextlib.contextmanager
def _lock(directory: Path, run_hash: str) -> Iterator[None]:
    """Locks the directory for this run; shards that an interrupted run of the same has made whole are still there."""
    marker = directory / UNFINISHED
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = marker.open("a+", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {directory}: {error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another process is writing {directory}; wait until it has ended") from None
        _check_directory(directory)  # again: another process may have finished meanwhile
        _take_over(directory, file, run_hash)
        yield
        marker.unlink()


def _take_over(directory: Path, file: IO[str], run_hash: str) -> None:
    file.seek(0)
    before = file.read()
    if before != run_hash and any(directory.glob("[0-9]*.json")):
        raise InputError(
            f"{directory} holds an unfinished run of other sources, settings or another tokenizer; "
            "remove it or choose another place"
        )
    for path in directory.glob(".*"):  # what a killed process was writing
        path.unlink()
    try:
        file.truncate(0)
        file.write(run_hash)
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"cannot write {directory}: {error.strerror}") from None
