"""Reader of the files that torch.distributed.checkpoint writes, without running code that they may contain.

torch reads the table of a checkpoint, and values that are no tensors, as pickles of any kind. Here the table may hold
the classes that such tables are made of, values may be plain ones, and files are regular ones of the same directory.
"""

import io
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem

from ..system.files import regular_file

_TABLE = ".metadata"
_CLASSES = frozenset(
    [("pathlib", "PosixPath"), ("torch", "Size"), ("torch.serialization", "_get_layout")]
    + [("torch.distributed.checkpoint.filesystem", "_StorageInfo")]
    + [
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ]
)


class CheckpointReader(FileSystemReader):
    """Reader of a checkpoint's directory; `ValueError` and its like for what is damaged."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Table of tensors and the files that hold them."""
        with regular_file(f"{self.path}/{_TABLE}").open("rb") as file:
            found = _Unpickler(file).load()
        if not isinstance(found, Metadata) or found.storage_meta is None:
            raise ValueError(f"{_TABLE} is no table of a checkpoint")
        found.storage_meta.load_id = self.load_id
        return found

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Refuses a table that leads out of its directory."""
        for info in metadata.storage_data.values():
            name = info.relative_path
            if not isinstance(name, str) or "/" in name:
                raise ValueError(f"{_TABLE} names {name!r}, which is no file of its directory")
            regular_file(f"{self.path}/{name}")
        super().set_up_storage_reader(metadata, is_coordinator, *args, **kwargs)


class PlainPlanner(DefaultLoadPlanner):
    """Planner for loading in which what is no tensor is a number, a string, or lists of them."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Loads a value that is no tensor, as `DefaultLoadPlanner` does, but without running code in it."""
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise ValueError(f"{_TABLE} asks for {module}.{name}, which no table of a checkpoint holds")
