"""Strings of a GGUF file one behind the other, each its length in 8 bytes and UTF-8: found and decoded all together.

A vocabulary is some hundred thousand of them, and every start of a model reads it.
"""

import struct
from itertools import pairwise, repeat

import numpy as np

_LENGTH = struct.Struct("<Q")
_LENGTH_BYTES = _LENGTH.size


def string_ends(raw: memoryview, begin: int, count: int) -> list[int]:
    """Ends of `count` strings from `begin` on; fewer where the file has no length of the next one.

    The last end may lie beyond the file.
    """
    at, unpack = begin, _LENGTH.unpack_from
    ends: list[int] = []
    add = ends.append
    try:
        for _ in repeat(None, count):
            at += _LENGTH_BYTES + unpack(raw, at)[0]
            add(at)
    except (struct.error, IndexError, OverflowError):  # beyond the file, or beyond all numbers of bytes
        pass
    return ends


def decode_strings(raw: memoryview, begin: int, ends: list[int]) -> list[str]:
    """Decodes the strings from `begin` on that end at `ends`; `UnicodeDecodeError` if one of them is not in UTF-8."""
    if not ends:
        return []
    data = np.frombuffer(raw[begin : ends[-1]], np.uint8)
    bounds = np.array([begin, *ends]) - begin
    is_text = np.ones(len(data), bool)
    for byte in range(_LENGTH_BYTES):
        is_text[bounds[:-1] + byte] = False
    text = data[is_text]
    bounds -= _LENGTH_BYTES * np.arange(len(bounds))  # in the text, of which each begins a character
    begins_character = (text & 0xC0) != 0x80
    if not begins_character[bounds[:-1][np.diff(bounds) > 0]].all():
        raise UnicodeDecodeError("utf-8", bytes(text[:1]), 0, 1, "invalid start byte")
    whole = text.tobytes().decode("utf-8")
    characters = np.concatenate([[0], np.cumsum(begins_character)])[bounds].tolist()
    return [whole[i:j] for i, j in pairwise(characters)]
