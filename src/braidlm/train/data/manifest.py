"""What a directory of shards says of itself: `manifest.json`, written last."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import whole_file
from ...tokenizer import Tokenizer

FILE = "manifest.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """A source: of a file its size in bytes and sha256; of a dataset 0, and the hash of the rows that were read."""

    name: str
    unit: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ShardSizes:
    """A shard: its tokens, its documents, and whether it says which tokens are trained on."""

    tokens: int
    documents: int
    masked: bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """tokenizer: `tokenizer_hash` of the one that made the tokens. dtype: of the token files.

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
        """Writes the file, whole or not at all."""
        with whole_file(directory / FILE) as path:
            path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Reads the file; `InputError` if it is not there, damaged or of another version."""
        path = directory / FILE
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{directory} holds no finished data: it has no {FILE}; braid data makes one") from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} is no readable JSON: {error}") from None
        version = found.get("version") if isinstance(found, dict) else None
        if version != VERSION:
            raise InputError(f"{path} is of version {version!r}; this version reads {VERSION}")
        try:
            sources = tuple(SourceInfo(**source) for source in found.pop("sources"))
            shards = tuple(ShardSizes(**shard) for shard in found.pop("shards"))
            return cls(sources=sources, shards=shards, skips=tuple(found.pop("skips")), **found)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged: {error}") from None


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Sha256 of a vocabulary and its rules."""
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()
