"""Worker that makes and writes one shard after the other. Runs in processes of its own, so it imports no torch.

A shard is up to four files: tokens, which of them are trained on (if not all), the index, and what is in it as JSON.
The last one is written last: where it is, the shard is whole.

Legend: N = documents, T = tokens.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from ...system.files import whole_file
from ...text.tokenizer import Tokenizer
from .encoding import Encoded, Encoder
from .entry import ENTRY, Source, digest_of
from .reading import read_documents
from .recipe import Recipe, Record
from .sources import Slice

# Bad documents of a shard that are named; all are counted.
_NAMED = 20


class Job(NamedTuple):
    """Settings that all tasks of a build have in common."""

    directory: Path
    tokenizer: Tokenizer
    recipe: Recipe
    sources: tuple[Source, ...]


class Task(NamedTuple):
    """Task to make one shard: of slices of files, or of records that came with it (all of source `source`).

    `key` names what the records were, so that an interrupted run is only gone on with if they are the same again.
    """

    number: int
    slices: tuple[Slice, ...]
    weight: int
    source: int = 0
    records: tuple[Record, ...] = ()
    key: str = ""


class ShardInfo(NamedTuple):
    """Contents of a shard; `skips` says of the first bad documents what was wrong with them."""

    tokens: int
    documents: int
    masked: bool
    skipped: int
    skips: list[str]
    key: str


def file_of(directory: Path, number: int, suffix: str) -> Path:
    """Path of a shard's file; `suffix` is tokens, trained, index or json."""
    return directory / f"{number:05d}.{suffix}"


def token_dtype(tokenizer: Tokenizer) -> str:
    """Dtype of token files: two bytes where every id fits, else four."""
    return "<u2" if tokenizer.largest_id < 2**16 else "<u4"


class Worker:
    """Worker that makes shards for one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._encoder = Encoder(job.tokenizer, job.recipe)
        self._dtype = token_dtype(job.tokenizer)

    def make(self, task: Task) -> ShardInfo:
        """Reads, tokenizes and writes one shard."""
        entries: list[tuple[int, int, int, int, int]] = []
        parts: list[Encoded] = []
        skips: list[str] = []
        end = 0
        for source, record in self._records(task):
            try:
                if record.problem:
                    raise InputError(record.problem)
                found = self._encoder.encode(record)
            except InputError as error:
                skips.append(self._bad(source, record, error))
                continue
            end += len(found.ids_T)
            entries.append((end, record.line, digest_of(found.ids_T), source, task.number))
            parts.append(found._replace(ids_T=found.ids_T.astype(self._dtype)))
        info = ShardInfo(
            end, len(parts), any(part.trained_T is not None for part in parts), len(skips), skips[:_NAMED], task.key
        )
        self._write(task.number, parts, np.array(entries, ENTRY), info)
        return info

    def _records(self, task: Task) -> Iterator[tuple[int, Record]]:
        for record in task.records:
            yield task.source, record
        for place in task.slices:
            for record in read_documents(place, self._job.recipe):
                yield place.source, record

    def _bad(self, source: int, record: Record, error: InputError) -> str:
        message = f"{self._job.sources[source].place(record.line)}: {error}"
        if self._job.recipe.on_bad_documents == "error":
            raise InputError(message) from None
        return message

    def _write(self, number: int, parts: list[Encoded], index_N: np.ndarray, info: ShardInfo) -> None:
        directory = self._job.directory
        with whole_file(file_of(directory, number, "tokens")) as path, path.open("wb") as file:
            file.writelines(part.ids_T.tobytes() for part in parts)
        if info.masked:
            with whole_file(file_of(directory, number, "trained")) as path, path.open("wb") as file:
                for ids_T, trained_T in parts:
                    file.write(bytes([1]) * len(ids_T) if trained_T is None else trained_T.tobytes())
        with whole_file(file_of(directory, number, "index")) as path:
            path.write_bytes(index_N.tobytes())
        with whole_file(file_of(directory, number, "json")) as path:
            path.write_text(json.dumps(info._asdict()), encoding="utf-8")


_workers: list[Worker] = []


def start(job: Job) -> None:
    """Starts a worker process: it ends at Ctrl-C at once and silently, and when its parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _workers.append(Worker(job))


def make(task: Task) -> ShardInfo:
    """Makes a shard in a process that `start` began."""
    return _workers[0].make(task)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
