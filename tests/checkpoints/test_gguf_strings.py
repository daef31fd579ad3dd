"""Tables of strings in GGUF files."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.checkpoints.gguf.strings import decode_strings, string_ends


def stored(strings: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(string)) + string for string in strings)


@given(st.lists(st.text()), st.binary(max_size=9))
def test_strings_come_back(strings: list[str], before: bytes) -> None:
    """Oracle: the strings that were written, whatever stands before and behind them."""
    raw = memoryview(before + stored([string.encode("utf-8", "replace") for string in strings]) + b"behind")
    ends = string_ends(raw, len(before), len(strings))
    expected = [string.encode("utf-8", "replace").decode() for string in strings]
    assert decode_strings(raw, len(before), ends) == expected


@given(
    st.lists(st.one_of(st.binary(max_size=4), st.text(max_size=2).map(lambda text: text.encode("utf-8", "replace"))))
)
def test_strings_that_are_no_text(strings: list[bytes]) -> None:
    """Oracle: Python's decoder, string by string: a character that two strings share belongs to neither."""
    raw = memoryview(stored(strings))
    ends = string_ends(raw, 0, len(strings))
    try:
        expected = [string.decode() for string in strings]
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            decode_strings(raw, 0, ends)
    else:
        assert decode_strings(raw, 0, ends) == expected


@pytest.mark.parametrize("length", [5, 2**31, 2**62, 2**63, 2**64 - 1])
def test_lengths_beyond_the_file(length: int) -> None:
    """Oracle: the two strings that are there; the last one's end says that it leaves the file."""
    raw = memoryview(stored([b"one", b"two"]) + struct.pack("<Q", length) + b"four")
    assert string_ends(raw, 0, 9)[:2] == [11, 22]
    assert string_ends(raw, 0, 9)[2:] == [30 + length]
