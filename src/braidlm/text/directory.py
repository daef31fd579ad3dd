"""The vocabulary in a checkpoint's directory, whichever of the published files it is in.

In order of preference: tokenizer.json, tekken.json, tokenizer.model (SentencePiece or tiktoken; Mistral also calls it
tokenizer.model.v3 and the like), vocab.json with merges.txt, NAME.tiktoken. The first that is there counts.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from ..errors import BraidError, CheckpointError, InputError
from ..system.files import is_there, read_object, regular_file
from .added import added_tokens
from .backend import Vocabulary, content_of, control
from .library import checked, guarded
from .sentencepiece import read_sentencepiece
from .settings import NAMED, check_settings, check_tokenizer_names
from .tekken import read_tekken
from .tiktoken_file import is_tiktoken, read_tiktoken
from .vocab_merges import read_vocab_merges

_MOST_BYTES = 256 << 20
# Vocabularies of kinds that are not read: WordPiece, fairseq's SentencePiece, RWKV's, halves of pairs.
_OTHERS = ("vocab.txt", "spiece.model", "sentencepiece.bpe.model", "source.spm", "vocab.json", "merges.txt")
_OTHER_PATTERNS = ("rwkv_vocab*.txt", "*.tokenizer.model", "vocab.*.txt")

Settings = Mapping[str, Any]


def read_vocabulary(path: Path, config: Settings) -> Vocabulary | None:
    """The vocabulary in a directory, or None if it holds none; `config` is its tokenizer_config.json.

    `CheckpointError` if the file is damaged; `InputError` if only files are there that are not read.
    """
    found = _find(path)
    if found is None:
        _refuse_others(path)
        return None
    file, read = found

    def damaged(reason: str) -> BraidError:
        return CheckpointError(f"{file} is damaged or no tokenizer: {reason}")

    named = _settings(path / "special_tokens_map.json") | dict(config)
    with guarded(_damaged_settings(path)):
        check_settings(named)
    with guarded(damaged):
        vocabulary = read(file, config, named)
    special = vocabulary.special | {name: text for name in NAMED if (text := content_of(named.get(name)))}
    backend = checked(vocabulary.backend, str(file))
    if file.name != "tokenizer.json":  # which says itself what is a control token
        known = set(backend.get_vocab())
        backend.add_tokens([control(text) for text in special.values() if text in known])
    return Vocabulary(backend, special)


def _damaged_settings(path: Path) -> Callable[[str], BraidError]:
    files = "tokenizer_config.json or special_tokens_map.json"
    return lambda reason: CheckpointError(f"{files} of {path} is damaged: {reason}")


_Read = Callable[[Path, Settings, Settings], Vocabulary]


def _find(path: Path) -> tuple[Path, _Read] | None:
    if is_there(path / "tokenizer.json"):
        return path / "tokenizer.json", _read_json
    if is_there(path / "tekken.json"):
        return path / "tekken.json", _read_tekken
    for file in _models(path):
        return file, _read_model
    if is_there(path / "vocab.json") and is_there(path / "merges.txt"):
        return path / "vocab.json", _read_vocab
    for file in sorted(path.glob("*.tiktoken")):
        return file, _read_model
    return None


def _models(path: Path) -> Iterator[Path]:
    """SentencePiece and tiktoken files: tokenizer.model, then those with a version behind it, the newest first."""
    if is_there(path / "tokenizer.model"):
        yield path / "tokenizer.model"
    versions = [(re.search(r"\.model\.v(\d+)", file.name), file) for file in sorted(path.glob("*.model.v*"))]
    numbered = [(int(match[1]), file) for match, file in versions if match is not None]
    yield from (file for _, file in sorted(numbered, key=lambda item: -item[0]))


def _read_json(file: Path, config: Settings, named: Settings) -> Vocabulary:
    text = _check_size(file).read_text(encoding="utf-8")
    check_tokenizer_names(text)
    return Vocabulary(Tokenizer.from_str(text), {})


def _read_tekken(file: Path, config: Settings, named: Settings) -> Vocabulary:
    return read_tekken(read_object(file, CheckpointError, most=_MOST_BYTES))


def _read_model(file: Path, config: Settings, named: Settings) -> Vocabulary:
    data, added = _check_size(file).read_bytes(), _added(file.parent, config, named)
    if is_tiktoken(data):
        return read_tiktoken(data, added)
    return read_sentencepiece(data, config, added)


def _read_vocab(file: Path, config: Settings, named: Settings) -> Vocabulary:
    vocab = read_object(file, CheckpointError)
    merges = _check_size(file.with_name("merges.txt")).read_text(encoding="utf-8")
    return read_vocab_merges(vocab, merges, config, _added(file.parent, config, named))


def _added(path: Path, config: Settings, named: Settings) -> dict[int, AddedToken]:
    special = {content_of(named.get(name)) for name in NAMED}
    more = named.get("additional_special_tokens")
    special |= {content_of(token) for token in more} if isinstance(more, list) else set()
    return added_tokens(config, _settings(path / "added_tokens.json"), special)


def _settings(file: Path) -> dict[str, Any]:
    return read_object(file, CheckpointError) if is_there(file) else {}


def _check_size(file: Path) -> Path:
    try:
        size = regular_file(file).stat().st_size
    except FileNotFoundError:
        raise CheckpointError(f"{file} does not exist") from None
    if size > _MOST_BYTES:
        raise CheckpointError(f"{file} is larger than {_MOST_BYTES >> 20} MiB, more than any tokenizer")
    return file


def _refuse_others(path: Path) -> None:
    others = [name for name in _OTHERS if is_there(path / name)]
    others += [file.name for pattern in _OTHER_PATTERNS for file in sorted(path.glob(pattern))]
    if others:
        raise InputError(f"{path} has a tokenizer in {others[0]}, which is not read; a tokenizer.json is needed")
