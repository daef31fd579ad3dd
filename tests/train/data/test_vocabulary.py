"""Vocabularies of one's own, and long texts read in pieces."""

from functools import cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from braidlm.api.loading import read_tokenizer
from braidlm.errors import InputError
from braidlm.text.tokenizer import Settings, Tokenizer
from braidlm.train.data import long_text
from braidlm.train.data.long_text import encode_long
from braidlm.train.data.vocabulary import END, train
from tests.text.made import TEXTS, backend, byte_level, properties, sentencepiece

README = Path(__file__).parents[3] / "README.md"


@cache
def trained() -> Tokenizer:
    return train([README], 500)


@properties
@given(st.text(max_size=60) | st.sampled_from(TEXTS))
def test_every_text_comes_back(text: str) -> None:
    """Oracle: the text itself; the token that ends a text is in none."""
    ids = trained().encode(text, special=False)
    assert trained().decode(ids, skip_special=False) == text
    assert trained().eos_ids[0] not in ids


def test_training(tmp_path: Path) -> None:
    """Oracle: the library's own training on the whole file at once; and the same vocabulary after saving."""
    expected = tokenizers.Tokenizer.from_str(trained().to_json())
    expected.model = tokenizers.models.BPE()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    expected.train([str(README)], trainer)
    assert trained().vocab_size == 500
    assert expected.get_vocab() == tokenizers.Tokenizer.from_str(trained().to_json()).get_vocab()
    trained().save(tmp_path)
    found = read_tokenizer(tmp_path)
    assert found.to_json() == trained().to_json()
    assert found.eos_ids == (found.id_of(END),) and found.special_ids == {found.id_of(END)}


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    """Oracle: sentences by hand."""
    (tmp_path / "a.txt").write_bytes(b"good\n\xff")
    (tmp_path / "b.txt").touch()
    for names, vocab, sentence in (
        (["a.txt"], 300, r"a\.txt, line 2: is no text in UTF-8: invalid start byte at byte 5"),
        (["b.txt"], 300, r"b\.txt: is empty"),
        (["c.txt"], 300, r"c\.txt is no file, directory or pattern"),
        (["a.txt"], 256, "a vocabulary of 256 tokens is too small; the bytes and the end of a text are 257"),
    ):
        with pytest.raises(InputError, match=sentence):
            train([tmp_path / name for name in names], vocab)


def with_ends() -> Tokenizer:
    """A vocabulary that wants a token before and one after every text."""
    made = tokenizers.Tokenizer.from_str(backend().to_str())
    made.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    return Tokenizer(made, Settings({"eos_token": "<|im_end|>"}))


lines = st.lists(
    st.sampled_from(["The quick fox", "", " ", "12345", "naïve — 数", "\t", "dog.", "<|im_end|>", "x" * 40])
)


@pytest.mark.parametrize("kind", ["byte-level", "own", "ends", "sentencepiece"])
def test_long_texts(kind: str) -> None:
    """Oracle: the same text read at once."""
    tokenizer = {"byte-level": byte_level(), "own": trained(), "ends": with_ends(), "sentencepiece": sentencepiece()}[
        kind
    ]

    @properties
    @given(lines, st.integers(1, 60), st.sampled_from(["\n", "\r\n", "\n\n"]))
    def check(parts: list[str], piece: int, end: str) -> None:
        text = end.join(parts)
        assert encode_long(tokenizer, text, piece) == tokenizer.encode(text, special=False)

    check()


def test_long_texts_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the longest text that the library was given."""
    given: list[int] = []
    encode = Tokenizer.encode

    def noting(self: Tokenizer, text: str, **options: bool) -> list[int]:
        given.append(len(text))
        return encode(self, text, **options)

    monkeypatch.setattr(Tokenizer, "encode", noting)
    encode_long(byte_level(), "The quick brown fox\n\njumps over the lazy dog.\n" * 200, 1000)
    assert max(given) <= 1000 + 2 * long_text._AROUND
