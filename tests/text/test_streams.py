"""Ids that come one by one give the text that they give together."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.text.tokenizer import Tokenizer
from tests.text.made import (
    FIRST_BYTE,
    FIRST_PIECE,
    PIECES,
    SPECIAL,
    backend,
    byte_level,
    forgeries,
    gpt2,
    properties,
    sentencepiece,
)


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(token) for token in ids), stream.flush()]


def bytes_of_byte_level(text: bytes) -> list[int]:
    """The ids of single bytes: GPT-2 writes those that cannot be printed as characters from 256 on."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printed]
    return [backend().token_to_id(chr(byte if byte in printed else 256 + hidden.index(byte))) for byte in text]


BROKEN = ("数".encode()[:2], "😀".encode()[:3], "😀".encode()[1:], b"\xff", b"\x80", b"\xc3", b"\xef\xbf")
WHOLE = tuple(text.encode() for text in ("é", "数", "😀", "\n", "\ufffd", "👩‍👩‍👧"))


@properties
@given(st.lists(st.integers(0, 298), max_size=20))
def test_stream_of_random_ids(ids: list[int]) -> None:
    """Oracle: the decoding of all ids at once; most of them are single bytes, of broken characters too."""
    assert "".join(streamed(byte_level(), ids)) == byte_level().decode(ids)


@properties
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*BROKEN, *WHOLE]).map(bytes_of_byte_level),
            st.sampled_from([*SPECIAL, "the", "Ġ"]).map(lambda token: [backend().token_to_id(token)]),
            st.just([400]),
        ),
        max_size=12,
    )
)
def test_stream_of_parts_of_characters(parts: list[list[int]]) -> None:
    """Oracle: the decoding of all ids at once; characters in bytes, cut ones, control tokens, ids beyond."""
    ids = [token for part in parts for token in part]
    assert "".join(streamed(byte_level(), ids)) == byte_level().decode(ids)


def raw(text: bytes) -> list[int]:
    return [FIRST_BYTE + byte for byte in text]


pieces = st.integers(FIRST_PIECE, FIRST_PIECE + len(PIECES)).map(lambda token: [token])
controls = st.sampled_from([[0], [1], [2], [10**4]])
whole = st.sampled_from(WHOLE).map(raw)
# A broken character stands between pieces: the decoder gives up on a whole run of bytes at once.
letter = [FIRST_PIECE + PIECES.index("a")]
broken = st.sampled_from(BROKEN).map(lambda text: [*letter, *raw(text), *letter])


@pytest.mark.parametrize("prefix", [True, False])
def test_stream_of_sentencepiece(prefix: bool) -> None:
    """Oracle: the decoding of all ids at once; pieces, characters in bytes, broken ones, control tokens."""
    tokenizer = sentencepiece(add_space_prefix=prefix)

    @properties
    @given(st.lists(st.one_of(pieces, controls, whole, broken), max_size=12), st.sampled_from([b"", *BROKEN]))
    def check(parts: list[list[int]], tail: bytes) -> None:
        ids = [token for part in parts for token in part] + letter + raw(tail)
        assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)

    check()


@pytest.mark.parametrize("prefix", [True, False])
def test_stream_of_random_sentencepiece_ids(prefix: bool) -> None:
    """Oracle: the decoding of all ids at once, wherever it holds no broken character."""
    tokenizer = sentencepiece(add_space_prefix=prefix)
    ascii_bytes = st.integers(FIRST_BYTE, FIRST_BYTE + 127).map(lambda token: [token])
    anything = st.integers(0, tokenizer.vocab_size).map(lambda token: [token])

    @properties
    @given(st.lists(st.one_of(pieces, controls, ascii_bytes, whole, anything), max_size=12))
    def check(parts: list[list[int]]) -> None:
        ids = [token for part in parts for token in part]
        expected = tokenizer.decode(ids)
        found = "".join(streamed(tokenizer, ids))
        assert found == expected or ("\ufffd" in expected and "\ufffd" in found)

    check()


@pytest.mark.parametrize("make", [byte_level, sentencepiece, gpt2])
def test_stream_of_text_that_was_encoded(make: Any) -> None:
    """Oracle: the text itself, for any text that has ids."""
    tokenizer = make()

    @properties
    @given(forgeries.map(lambda text: text.replace("▁", "_")))
    def check(text: str) -> None:
        assert "".join(streamed(tokenizer, tokenizer.encode(text, special=False, add_bos=False))) == text

    check()


def test_stream_shows_text_as_soon_as_it_is_certain() -> None:
    """Oracle: by hand: a character appears with its last byte, everything else at once."""
    byte_ids = bytes_of_byte_level("a数b".encode())
    assert streamed(byte_level(), byte_ids) == ["a", "", "", "数", "b", ""]
    ids = [FIRST_PIECE + PIECES.index("▁the"), 2, *raw("é".encode()), FIRST_PIECE + PIECES.index("▁ab")]
    assert streamed(sentencepiece(), ids) == ["the", "", "", "é", " ab", ""]
    assert streamed(sentencepiece(), [*ids, *raw(b"\xe2\x82")])[-1] == "\ufffd\ufffd"


@pytest.mark.parametrize("hidden", [backend().token_to_id(SPECIAL[0]), 100_000])
def test_stream_of_hidden_tokens_alone(hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: a model that writes control tokens for ever has no text, and none of them is decoded again."""
    decoded: list[int] = []
    whole = Tokenizer.decode
    monkeypatch.setattr(
        Tokenizer, "decode", lambda self, ids, **how: decoded.append(len(ids)) or whole(self, ids, **how)
    )
    assert streamed(byte_level(), [*bytes_of_byte_level(b"a"), *[hidden] * 5000, *bytes_of_byte_level(b"b")])[-2:] == [
        "b",
        "",
    ]
    assert sum(decoded) < 20


def test_stream_starts_again_after_its_end() -> None:
    """Oracle: a fresh stream."""
    tokenizer, stream = sentencepiece(), sentencepiece().stream()
    for text in ("the ab", "數", " a"):
        ids = tokenizer.encode(text, add_bos=False)
        assert "".join(map(stream.push, ids)) + stream.flush() == text
