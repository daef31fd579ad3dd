"""Hugging Face datasets: from a directory or the hub, whole or streamed, row by row.

They are read by the process that plans, which hands the rows to those that tokenize: a stream can be read only once.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ...errors import InputError, UnavailableError
from .recipe import Recipe, Record, record_of
from .worker import Task


class Dataset(NamedTuple):
    """Opened dataset: its rows, how many there are (0 if that is not known), and its fingerprint by the library."""

    name: str
    data: Iterable[Any]
    rows: int
    version: str


def open_dataset(name: str, recipe: Recipe) -> Dataset:
    """Opens a dataset in a directory (saved by `save_to_disk`, or files that the library knows), or of the hub."""
    library = _library()
    try:
        if (Path(name) / "dataset_dict.json").exists() or (Path(name) / "dataset_info.json").exists():
            data = library.load_from_disk(name)
            data = data[recipe.split] if isinstance(data, dict) else data
        else:
            data = library.load_dataset(name, recipe.subset, split=recipe.split, streaming=recipe.streamed)
    except Exception as error:  # the library raises whatever its readers raise
        raise InputError(f"dataset {name} cannot be read: {_sentence(error)}") from None
    rows = len(data) if hasattr(data, "__len__") else 0
    return Dataset(name, data, rows, str(getattr(data, "_fingerprint", "")) if rows else "")


def tasks(datasets: Sequence[Dataset], recipe: Recipe, size: int) -> Iterator[Task]:
    """Tasks for the rows of datasets, in order, about `size` bytes each."""
    number = 0
    for source, dataset in enumerate(datasets):
        records: list[Record] = []
        weight, key = 0, hashlib.sha256()
        for record in _records(dataset, recipe):
            text = json.dumps(record, default=str).encode()
            records.append(record)
            key.update(text)
            weight += len(text)
            if weight >= size:
                yield Task(number, (), len(records), source, tuple(records), key.hexdigest())
                records, weight, key, number = [], 0, hashlib.sha256(), number + 1
        if records:
            yield Task(number, (), len(records), source, tuple(records), key.hexdigest())
            number += 1


def _records(dataset: Dataset, recipe: Recipe) -> Iterator[Record]:
    try:
        for row, fields in enumerate(dataset.data, 1):
            yield record_of(row, fields, recipe.name_of_field)
    except Exception as error:  # the network, a damaged file, a reader of the library's
        raise InputError(f"dataset {dataset.name} cannot be read on: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _library() -> ModuleType:
    try:
        import datasets  # noqa: PLC0415 - optional
    except ImportError:
        raise UnavailableError("this needs the package datasets; pip install datasets gets it") from None
    return datasets
