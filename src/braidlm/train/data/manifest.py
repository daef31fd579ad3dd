"""Manifest of a directory of shards: `manifest.json`, written last."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ...errors import InputError, quoted
from ...system.files import read_object, whole_file
from ...text.tokenizer import Tokenizer

FILE = "manifest.json"
VERSION = 1
DTYPES = ("<u2", "<u4")  # of token files
_MOST = 2**62


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """Source in a manifest: a file's size in bytes and sha256; of a dataset 0 and the hash of the rows read."""

    name: str
    unit: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ShardSizes:
    """Sizes of a shard. masked: whether it has a file that says which tokens are trained on."""

    tokens: int
    documents: int
    masked: bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Manifest of a directory of shards.

    tokenizer: `tokenizer_hash` of the one that made the tokens. dtype: of the token files.
    skipped: bad documents that were left out; skips: what was wrong with the first ones.
    """

    version: int
    tokenizer: str
    vocabulary: int
    dtype: str
    kind: str
    field: str
    holdout: float
    tokens: int
    documents: int
    skipped: int
    skips: tuple[str, ...]
    sources: tuple[SourceInfo, ...]
    shards: tuple[ShardSizes, ...]

    def write(self, directory: Path) -> None:
        """Writes the manifest, whole or not at all."""
        with whole_file(directory / FILE) as path:
            path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def digest(self) -> str:
        """Sha256 of the manifest, which covers the sources' content and the tokenizer."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Reads the manifest; `InputError` if it is not there, damaged or of another version."""
        path = directory / FILE
        missing = f"{directory} holds no finished data: it has no {FILE}; braid data makes one"
        found = read_object(path, InputError, missing=missing)
        version = found.get("version")
        if version != VERSION:
            raise InputError(f"{path} is of version {quoted(version)}; this version reads {VERSION}")
        try:
            sources = tuple(SourceInfo(**source) for source in found.pop("sources"))
            shards = tuple(ShardSizes(**shard) for shard in found.pop("shards"))
            manifest = cls(sources=sources, shards=shards, skips=tuple(found.pop("skips")), **found)
            _check(manifest)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged: {error}; braid data makes it anew") from None
        return manifest


def _check(manifest: Manifest) -> None:
    """`ValueError` for the first value that `Manifest.write` never writes."""
    if manifest.dtype not in DTYPES:
        raise ValueError(f"its dtype is {quoted(manifest.dtype)}, but must be one of {', '.join(DTYPES)}")
    if not manifest.shards:
        raise ValueError("it lists no shards")
    parts: list[Manifest | SourceInfo | ShardSizes] = [manifest, *manifest.sources, *manifest.shards]
    for part in parts:
        for field in fields(part):
            value = getattr(part, field.name)
            if field.type is int and not (type(value) is int and 0 <= value <= _MOST):
                raise ValueError(f"its {field.name!r} is {quoted(value)}, but must be a whole number up to 2^62")
            if field.type in (str, bool) and type(value) is not field.type:
                raise ValueError(f"its {field.name!r} is {quoted(value)}, which is of another kind")
    for name in ("tokens", "documents"):
        found = sum(getattr(shard, name) for shard in manifest.shards)
        if found != getattr(manifest, name):
            raise ValueError(f"its {name!r} is {getattr(manifest, name)}, but its shards have {found}")
    if not isinstance(manifest.holdout, int | float) or not 0 <= manifest.holdout <= _MOST:
        raise ValueError(f"its 'holdout' is {quoted(manifest.holdout)}, but must be a share or a number of documents")


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Sha256 of a vocabulary and its rules."""
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()
