"""Reader of SentencePiece model files: the few fields of `sentencepiece_model.proto` that say how a text is cut.

The file is one protocol-buffer message. A reader of its wire format is forty lines; the libraries that could do it are
two more dependencies, of which one hides the fields that matter here (normalizer, kinds of pieces).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .pieces import Piece

UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass
class SentencePieceModel:
    """Pieces in the order of their ids, and the settings with their published defaults."""

    pieces: list[Piece] = field(default_factory=list)
    kind: int = UNIGRAM
    space_behind: bool = False
    normalizer: str = ""
    charsmap: bytes = b""
    dummy_prefix: bool = True
    one_space: bool = True
    escape_spaces: bool = True
    ids: dict[str, int] = field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})


def parse_sentencepiece(data: bytes) -> SentencePieceModel:
    """The model in a file's bytes; `ValueError` for anything else."""
    found = SentencePieceModel()
    for number, value in _fields(data):
        if number == 1:
            found.pieces.append(_piece(_message(value)))
        elif number == 2:
            _read_trainer(found, _message(value))
        elif number == 3:
            _read_normalizer(found, _message(value))
    return found


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, 1
    for number, value in _fields(data):
        if number == 1:
            text = _message(value).decode("utf-8")
        elif number == 2:
            score = struct.unpack("<f", struct.pack("<I", _whole(value)))[0]
        elif number == 3:
            kind = _whole(value)
    return Piece(text, score, kind)


def _read_trainer(found: SentencePieceModel, data: bytes) -> None:
    names = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}
    for number, value in _fields(data):
        if number == 3:
            found.kind = _whole(value)
        elif number == 24:
            found.space_behind = bool(value)
        elif number in names:
            whole = _whole(value)
            found.ids[names[number]] = whole - 2**64 if whole >= 2**63 else whole


def _read_normalizer(found: SentencePieceModel, data: bytes) -> None:
    for number, value in _fields(data):
        if number == 1:
            found.normalizer = _message(value).decode("utf-8")
        elif number == 2:
            found.charsmap = _message(value)
        elif number == 3:
            found.dummy_prefix = bool(value)
        elif number == 4:
            found.one_space = bool(value)
        elif number == 5:
            found.escape_spaces = bool(value)


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where a text or message must be")
    return value


def _whole(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a text or message stands where a number must be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: number and value, an int for all kinds but bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == _VARINT:
            value: int | bytes
            value, place = _varint(data, place)
        elif kind == _BYTES:
            size, place = _varint(data, place)
            value, place = data[place : place + size], place + size
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            value, place = int.from_bytes(data[place : place + size], "little"), place + size
        else:
            raise ValueError(f"a field of kind {kind} is none of this format")
        if place > len(data):
            raise ValueError("the file ends within a field")
        yield key >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("the file ends within a number")
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
