"""Weights of a directory: which of its files hold them, and their tensors by name.

Safetensors files are memory-mapped. Pickles are read only when asked for, and then with `weights_only=True`.
Where a directory holds weights more than once, those that transformers reads are read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import CheckpointError, named, quoted, warn_loading
from ..system.files import is_there, read_object, regular_file
from ..system.safetensors_file import open_safetensors
from .binding import INDEX_FILE, Source

SINGLE_FILE = "model.safetensors"
PICKLE_FILE = "pytorch_model.bin"

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.(safetensors|bin)")
# What lies beside weights and is none: adapters, what training leaves, Mistral's own layout.
_OTHERS = re.compile(
    r"adapter_model\..*|consolidated.*|training_args\.bin|optimizer\..*|scheduler\..*|scaler\..*|rng_state.*"
)


class SafetensorsSource:
    """Source of one or several memory-mapped safetensors files.

    `places` say which file has a tensor that is in several.
    """

    def __init__(self, files: Sequence[Path], places: Mapping[str, str] | None = None) -> None:
        self._handles: dict[str, Any] = {}
        self._views: dict[str, Tensor] = {}
        owners: dict[str, str] = {}
        for file in files:
            handle = open_safetensors(file, CheckpointError, missing=f"the weights file {file} does not exist")
            for name in handle.keys():  # noqa: SIM118 (a safetensors file is no dictionary)
                wanted = (places or {}).get(name)
                if name in owners and wanted not in (owners[name], file.name):
                    raise CheckpointError(f"tensor {name} is in more than one file of {file.parent}")
                if name not in owners or wanted == file.name:
                    owners[name], self._handles[name] = file.name, handle

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._handles)

    def get(self, name: str) -> Tensor:
        """One tensor, as a view into the mapped file."""
        if name not in self._views:  # asked for its dtype and its shape before it is read
            try:
                self._views[name] = self._handles[name].get_tensor(name)
            except (SafetensorError, AttributeError, KeyError) as error:  # a dtype that torch or safetensors lacks
                raise CheckpointError(f"tensor {name} cannot be read: {error}") from None
        return self._views[name]


class PickleSource:
    """Source of one or several pickled state dicts, read without running code that they may contain."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._tensors: dict[str, Tensor] = {}
        for file in files:
            found = _unpickled(file)
            twice = sorted(self._tensors.keys() & found.keys())
            if twice:
                raise CheckpointError(f"tensor {twice[0]} is in more than one file of {file.parent}")
            self._tensors |= found

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._tensors)

    def get(self, name: str) -> Tensor:
        """One tensor, in its stored dtype."""
        return self._tensors[name]


def _unpickled(file: Path) -> dict[str, Tensor]:
    try:
        # Before torch 1.6 a checkpoint was no zip file, which cannot be mapped.
        loaded = torch.load(regular_file(file), map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except FileNotFoundError:
        raise CheckpointError(f"the weights file {file} does not exist") from None
    except Exception as error:  # a damaged pickle may end in any exception
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{file} is damaged or holds more than tensors: {reason}") from None
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{file} holds a {type(loaded).__name__}, but must hold a dictionary of tensors")
    for name, tensor in loaded.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{file} calls a tensor {quoted(name)}, but names must be texts")
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{file} holds a {type(tensor).__name__} called {name}, but must hold only tensors")
        if tensor.layout != torch.strided:
            raise CheckpointError(f"tensor {name} is sparse in {file}, but must be dense")
    return loaded


def open_directory(path: Path, *, allow_pickle: bool) -> Source:
    """Opens the weights of a Hugging Face or braidlm directory."""
    index, single = path / INDEX_FILE, path / SINGLE_FILE
    if is_there(index):
        places = _weight_map(index)
        files = sorted(set(places.values()))
        if is_there(single) and SINGLE_FILE not in files:
            _tell(path, f"{SINGLE_FILE}, as transformers does, and not the files of {INDEX_FILE}", files)
            return SafetensorsSource([single])
        unlisted = [file for file in _siblings(path, files) if file not in files]
        if unlisted:
            _tell(path, f"the files that {INDEX_FILE} lists, and not those that it lacks", unlisted)
        return SafetensorsSource([path / file for file in files], places)
    files = [SINGLE_FILE] if is_there(single) else _shards(path, "model", "safetensors")
    return SafetensorsSource([path / file for file in files]) if files else _open_pickles(path, allow_pickle)


def _open_pickles(path: Path, allow_pickle: bool) -> Source:
    index = path / f"{PICKLE_FILE}.index.json"
    if is_there(index):
        files = sorted(set(_weight_map(index).values()))
    elif is_there(path / PICKLE_FILE):
        files = [PICKLE_FILE]
    else:
        files = _shards(path, "pytorch_model", "bin") or _only_pickle(path)
    if not files:
        raise CheckpointError(_no_weights(path))
    if not allow_pickle:
        raise CheckpointError(
            f"{path} holds only pickled weights ({files[0]}); allow_pickle=True (--allow-pickle) loads them, "
            "without running code from them"
        )
    return PickleSource(path / file for file in files)


def _no_weights(path: Path) -> str:
    """A sentence on a directory without weights that can be read."""
    ggufs = sorted(file.name for file in path.glob("*.gguf"))
    if ggufs:
        return f"{path} holds its weights as GGUF; load one of the files themselves: {named(ggufs)}"
    own = sorted(file.name for file in path.glob("consolidated*"))
    if own:
        return (
            f"{path} holds weights in the layout of their makers alone ({own[0]}), which is not read; "
            f"get {SINGLE_FILE} or the files of {INDEX_FILE} from the same place"
        )
    others = sorted(file.name for file in path.glob("*.safetensors"))
    hint = f" (rename {others[0]} if that holds them)" if others else ""
    return f"{path} holds no weights: neither {SINGLE_FILE} nor {INDEX_FILE}{hint}"


def _only_pickle(path: Path) -> list[str]:
    """The only pickle that may be of weights, if there is one."""
    found = sorted(file.name for suffix in ("bin", "pt", "pth") for file in path.glob(f"*.{suffix}"))
    found = [name for name in found if not _OTHERS.fullmatch(name)]
    if len(found) > 1:
        raise CheckpointError(f"{path} holds several pickles ({named(found)}); keep the one that holds the weights")
    return found


def _shards(path: Path, stem: str, suffix: str) -> list[str]:
    """Shards that no index lists, if they are 1 to N of N; `CheckpointError` says which is missing."""
    names = sorted(file.name for file in path.glob(f"{stem}-*-of-*.{suffix}"))
    shards = {name: match for name in names if (match := _SHARD.fullmatch(name)) and match[1] == stem}
    counts = {match[3] for match in shards.values()}
    if len(counts) > 1:
        raise CheckpointError(f"{path} holds shards of several sets ({named(list(shards))}); keep those of one")
    present = {int(match[2]) for match in shards.values()}
    for count in counts:
        gap = next(number for number in range(1, len(shards) + 2) if number not in present)
        if gap <= int(count):
            raise CheckpointError(f"{path} lacks weights: shard {gap} of {stem}-*-of-{count}.{suffix} is not there")
    return list(shards)


def _siblings(path: Path, files: Sequence[str]) -> list[str]:
    """Shards in a directory that say that they belong to the same set as those in `files`."""
    sets = {(match[1], match[3]) for file in files if (match := _SHARD.fullmatch(file))}
    names = sorted(file.name for file in path.glob("*.safetensors"))
    return [name for name in names if (match := _SHARD.fullmatch(name)) and (match[1], match[3]) in sets]


def _tell(path: Path, what: str, files: Sequence[str]) -> None:
    warn_loading(f"{path}: read {what}: {named(files)}")


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor that an index names, all of them in its own directory."""
    found = read_object(index, CheckpointError).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{index} is damaged: it should hold a 'weight_map' of tensor names to files")
    for file in found.values():
        if not isinstance(file, str) or not _is_inside(file) or _is_directory(index.parent / file):
            raise CheckpointError(f"{index} is damaged: it names {quoted(file)}, which is no file of its directory")
    return found


def _is_inside(file: str) -> bool:
    # By its name alone: files in a cache are links to elsewhere. No file system has longer names.
    parts = PurePosixPath(file).parts
    return "\0" not in file and not PurePosixPath(file).is_absolute() and ".." not in parts and len(file) < 1024


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a part of its name is longer than a file system takes
        return True


def largest_dtype(source: Source, names: Iterable[str]) -> torch.dtype | None:
    """Dtype of the largest of some tensors, since vectors may be stored wider than matrices; None without any."""
    largest = max((source.get(name) for name in sorted(names)), key=Tensor.numel, default=None)
    return None if largest is None else largest.dtype
