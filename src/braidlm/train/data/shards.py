"""Opened directory of shards: its documents for training, and those held out.

Tokens stay in memory maps; the index of all documents is in memory. A shard's tokens are held against the digests of
its documents when it is used for the first time.

Legend: N = documents.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError, named
from ...system.files import regular_file
from ...system.suggest import did_you_mean
from ...text.tokenizer import Tokenizer
from .documents import Content, Documents
from .entry import ENTRY, Source, digest_of
from .manifest import Manifest, tokenizer_hash
from .worker import file_of

# Every map holds a file open, of which a process may have about a thousand.
_MAPS = 128


class Shards:
    """Opened directory that `build` has written. `InputError` if it is damaged, or made by another tokenizer.

    training: documents to train on. holdout: held-out documents.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer) -> None:
        self.directory, self.manifest = directory, Manifest.read(directory)
        if self.manifest.tokenizer != tokenizer_hash(tokenizer):
            raise InputError(
                f"{directory} was tokenized with another vocabulary (of {self.manifest.vocabulary} tokens, this one "
                f"has {tokenizer.vocab_size}); tokenize the sources again with this one"
            )
        self._dtype = np.dtype(self.manifest.dtype)
        self._checked: set[int] = set()
        self._check_sizes()
        index_N = np.concatenate([self._index(number) for number in range(len(self.manifest.shards))])
        content = functools.lru_cache(_MAPS)(self._content)
        sources = [Source(source.name, source.unit) for source in self.manifest.sources]
        holdout_N = holdout_mask(index_N["hash"], self.manifest.holdout)
        self._index_N, self._holdout_N = index_N, holdout_N
        self._documents = functools.partial(Documents, index_N, content, sources)
        self.training = self._documents(np.flatnonzero(~holdout_N))
        self.holdout = self._documents(np.flatnonzero(holdout_N))

    def apart(self, names: Sequence[str]) -> "Apart":
        """Splits off the documents of the named sources from those for training.

        `InputError` if a name means no source or several, if nothing is left to train on, or if a document that would
        be trained on is the same as one of theirs.
        """
        numbers = {name: find_source(name, [source.name for source in self.manifest.sources]) for name in names}
        apart_N = np.isin(self._index_N["source"], list(numbers.values()))
        training = self._documents(np.flatnonzero(~self._holdout_N & ~apart_N))
        if not len(training):
            raise InputError(f"data.eval_files leaves no document of {self.directory} to train on; name fewer sources")
        self._require_different(apart_N, training)
        files = {name: self._documents(np.flatnonzero(self._index_N["source"] == n)) for name, n in numbers.items()}
        for name, documents in files.items():
            if not len(documents):
                raise InputError(f"data.eval_files names {name}, of which {self.directory} has no document")
        return Apart(training, files)

    def hashes(self, documents: Documents) -> np.ndarray:
        """Digest of each document's tokens, [N]."""
        return self._index_N["hash"][documents.numbers_N]

    def _require_different(self, apart_N: np.ndarray, training: Documents) -> None:
        hash_N = self._index_N["hash"]
        same_N = np.isin(hash_N[training.numbers_N], hash_N[apart_N])
        if same_N.any():
            number = int(training.numbers_N[np.argmax(same_N)])
            twin = int(np.flatnonzero(apart_N & (hash_N == hash_N[number]))[0])
            raise InputError(
                f"{training.where(number)} is the same text as {training.where(twin)} of data.eval_files, and would be "
                "trained on; name its source there too, or leave it out of the data"
            )

    def _check_sizes(self) -> None:
        for number, shard in enumerate(self.manifest.shards):
            sizes = {"tokens": shard.tokens * self._dtype.itemsize, "index": shard.documents * ENTRY.itemsize}
            for suffix, expected in (sizes | ({"trained": shard.tokens} if shard.masked else {})).items():
                path = file_of(self.directory, number, suffix)
                try:
                    found = regular_file(path).stat().st_size
                except (OSError, ValueError) as error:
                    reason = error.strerror if isinstance(error, OSError) else error
                    raise InputError(f"{path} cannot be read: {reason}; tokenize the sources again") from None
                if found != expected:
                    raise _damaged(path, f"it has {found} bytes instead of {expected}")

    def _index(self, number: int) -> np.ndarray:
        path, shard = file_of(self.directory, number, "index"), self.manifest.shards[number]
        index_N = np.fromfile(path, ENTRY)
        ends_N, sources_N = index_N["end"], index_N["source"]
        if len(ends_N) and (np.diff(ends_N, prepend=0).min() < 1 or ends_N[-1] != shard.tokens):
            raise _damaged(path, "its documents do not make up its tokens")
        if (index_N["shard"] != number).any():
            raise _damaged(path, "it holds documents of another shard")
        if (index_N["line"] < 0).any():
            raise _damaged(path, "it names a line before the first")
        if ((sources_N < 0) | (sources_N >= len(self.manifest.sources))).any():
            raise _damaged(path, "it names a source that the manifest does not list")
        return index_N

    def _content(self, number: int) -> Content:
        path = file_of(self.directory, number, "tokens")
        ids_T = np.memmap(path, self._dtype, "r")
        if number not in self._checked:
            self._check_content(path, ids_T, number)
        masked = self.manifest.shards[number].masked
        return Content(ids_T, np.memmap(file_of(self.directory, number, "trained"), np.uint8, "r") if masked else None)

    def _check_content(self, path: Path, ids_T: np.ndarray, number: int) -> None:
        """`InputError` unless a shard's documents are those of its index: when it is opened for the first time."""
        begin = 0
        for entry in self._index(number):
            if digest_of(ids_T[begin : entry["end"]]) != entry["hash"]:
                raise _damaged(path, f"its tokens from {begin} on are not those that were written")
            begin = int(entry["end"])
        if self.manifest.shards[number].masked:
            flags = file_of(self.directory, number, "trained")
            if np.fromfile(flags, np.uint8).max(initial=0) > 1:
                raise _damaged(flags, "it says neither yes nor no of a token")
        self._checked.add(number)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is damaged: {why}; tokenize the sources again")


class Apart(NamedTuple):
    """Split of the documents: those for training, and those of each source kept apart, by the name it was called."""

    training: Documents
    files: dict[str, Documents]


def find_source(name: str, sources: Sequence[str]) -> int:
    """Number of the source that a name, or the end of a path, means; `InputError` if none, or several."""
    parts = Path(name).parts
    fitting = [n for n, source in enumerate(sources) if _ends_alike(Path(source).parts, parts)]
    exact = [n for n, source in enumerate(sources) if source == name]
    found = exact or fitting
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"data.eval_files names {name!r}, which may be {named([sources[n] for n in found])}; say more")
    raise InputError(
        f"data.eval_files names {name!r}, which is no source of the data; they are {named(list(sources))}"
        + did_you_mean(name, [Path(source).name for source in sources])
    )


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    length = min(len(one), len(other))
    return length > 0 and one[-length:] == other[-length:]


def holdout_mask(hash_N: np.ndarray, holdout: float) -> np.ndarray:
    """Mask of the held-out documents, bool: a share of all below 1, or a number; equal ones together.

    It depends on a document's content alone, so that it stays held out (or not) where others are added.
    """
    if not holdout:
        return np.zeros(len(hash_N), bool)
    if holdout < 1:
        holdout_N = hash_N < np.uint64(int(holdout * 2**64))
    else:
        last = min(int(holdout), len(hash_N)) - 1
        holdout_N = hash_N <= np.partition(hash_N, last)[last]
    if not holdout_N.any() or holdout_N.all():
        raise InputError(
            f"of {len(hash_N)} documents, a holdout of {holdout:g} keeps {holdout_N.sum()} from training; "
            "there must be some of both (a number of documents can be given, too)"
        )
    return holdout_N
