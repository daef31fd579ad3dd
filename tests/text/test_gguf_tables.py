"""Tokenizers from the tables in GGUF files."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.errors import CheckpointError, InputError
from braidlm.text.tokenizer import Tokenizer
from tests.text.made import (
    ALPHABET,
    FIRST_PIECE,
    NORMAL,
    PIECES,
    TOOL,
    UNKNOWN,
    byte_level,
    fields,
    forgeries,
    gpt2,
    merged,
    properties,
    sentencepiece,
    texts_of,
)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_merges(prefix: bool) -> None:
    """Oracle: the definition of SentencePiece's BPE, on texts of its own pieces and of strange characters."""
    tokenizer = sentencepiece(add_space_prefix=prefix)

    @properties
    @given(st.lists(st.sampled_from([*PIECES, " ", "  ", "z", "数", "😀", "\t"]), max_size=12).map("".join))
    def check(text: str) -> None:
        assert tokenizer.encode(text, add_bos=False) == merged(text, prefix)

    check()


@pytest.mark.parametrize("prefix", [True, False, ...])
def test_sentencepiece_round_trip(prefix: Any) -> None:
    """Oracle: the text itself; the space before it is taken off again, and is the default."""
    tokenizer = sentencepiece(add_space_prefix=prefix)
    for text in ("the ab é", " the", "  abc", "the ", "", "数\n\t😀 z", "cab\x00"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    first = tokenizer.encode("the")[1:]
    assert first == [FIRST_PIECE + PIECES.index("the" if prefix is False else "▁the")]


def test_sentencepiece_control_and_user_tokens() -> None:
    """Oracle: ids by hand."""
    tokenizer = sentencepiece(add_space_prefix=False)
    tool = tokenizer.vocab_size - 1
    assert tokenizer.id_of(TOOL) == tool
    assert tokenizer.special_ids == {0, 1, 2}
    assert tokenizer.encode(f"{TOOL}</s>") == [1, tool, 2]
    assert tokenizer.decode([1, tool, 2]) == TOOL
    assert tokenizer.bos_id == 1
    assert tokenizer.eos_ids == (2,)


def test_sentencepiece_without_bytes() -> None:
    """Oracle: by hand: characters in no piece become one unknown token."""
    table = {"tokens": ["<unk>", "▁", "a"], "scores": [0.0, -1.0, -2.0], "token_type": [UNKNOWN, NORMAL, NORMAL]}
    tokenizer = Tokenizer.from_gguf(fields(model="llama", **table, unknown_token_id=0))
    assert tokenizer.encode("azza") == [1, 2, 0, 2]


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("gpt-2", ["12", "34", "5", " ", "he", "l", "l", "o"]),
        ("default", ["12", "34", "5", " ", "he", "l", "l", "o"]),
        (..., ["12", "34", "5", " ", "he", "l", "l", "o"]),
        ("smollm", ["1", "2", "3", "4", "5", " ", "he", "l", "l", "o"]),
        ("starcoder", ["1", "2", "3", "4", "5", " ", "he", "l", "l", "o"]),
        ("qwen2", ["1", "2", "3", "4", "5", " ", "he", "l", "l", "o"]),
        ("llama-bpe", ["12", "3", "4", "5", " ", "he", "l", "l", "o"]),
        ("llama3", ["12", "3", "4", "5", " ", "he", "l", "l", "o"]),
    ],
)
def test_cutting_into_words(pre: Any, words: list[str]) -> None:
    """Oracle: by hand: a merge never reaches over the end of a word, and digits are words of one, three or all."""
    assert texts_of(gpt2(pre=pre), "12345 hello") == words


def test_whole_words_first() -> None:
    """Oracle: by hand: only the newer patterns take a word that is a token without merging it."""
    assert texts_of(gpt2(pre="llama-bpe"), "hello") == ["hello"]
    assert texts_of(gpt2(pre="gpt-2"), "hello") == ["he", "l", "l", "o"]


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_byte_level_round_trip(pre: str) -> None:
    """Oracle: the text itself, whatever it is."""
    tokenizer = gpt2(pre=pre)

    @properties
    @given(forgeries)
    def check(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == text
        plain = tokenizer.encode(text, special=False)
        assert tokenizer.decode(plain) == text
        assert not tokenizer.special_ids & set(plain)

    check()


def test_unknown_kinds_are_refused() -> None:
    """Oracle: one sentence that names what the file says and what is known."""
    with pytest.raises(InputError, match=r"'bert'; supported are 'gpt2', 'llama', 't5', 'gemma4'") as caught:
        gpt2(model="bert")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"of kind None; supported are"):
        gpt2(model=...)
    with pytest.raises(InputError, match=r"'rwkv', which is not known; known are .*llama-bpe.*qwen2") as caught:
        gpt2(pre="rwkv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("merge", ["1 3", "hé llo", "12", "", " 3", "3 ", "3  4"])
def test_merges_that_make_no_token(merge: str) -> None:
    """Oracle: one sentence that names the merge; two tokens that make a third are wanted."""
    with pytest.raises(CheckpointError, match=re.escape(f"the merge {merge!r} does not make a token")) as caught:
        gpt2(merges=["3 4", merge])
    assert "\n" not in str(caught.value)


def test_gguf_without_tables() -> None:
    """Oracle: nothing rather than an error."""
    assert Tokenizer.from_gguf({"general.architecture": "llama"}) is None


@pytest.mark.parametrize(
    ("settings", "around"),
    [
        ({}, ([1], [])),
        ({"add_bos_token": True}, ([1], [])),
        ({"add_bos_token": False}, ([], [])),
        ({"add_eos_token": True}, ([1], [2])),
        ({"add_bos_token": False, "add_eos_token": True}, ([], [2])),
        ({"add_eos_token": False}, ([1], [])),
    ],
)
def test_what_a_sentencepiece_model_wants_around_a_text(
    settings: dict[str, bool], around: tuple[list[int], list[int]]
) -> None:
    """Oracle: ids by hand; SentencePiece models want a start token unless they say otherwise."""
    tokenizer = sentencepiece(**settings)
    inner = tokenizer.encode("the ab", add_bos=False)
    assert inner == merged("the ab", True)
    assert tokenizer.encode("the ab") == [*around[0], *inner, *around[1]]
    assert tokenizer.encode("") == [*around[0], *around[1]]


@pytest.mark.parametrize(
    ("settings", "begins", "ends"),
    [
        ({}, False, False),
        ({"add_bos_token": True}, True, False),
        ({"add_bos_token": True, "add_eos_token": True}, True, True),
        ({"add_eos_token": True}, False, True),
        ({"pre": "llama-bpe"}, True, False),
        ({"pre": "llama-bpe", "add_bos_token": False}, False, False),
        ({"pre": "qwen2"}, False, False),
        ({"add_bos_token": True, "bos_token_id": ...}, False, False),
    ],
)
def test_what_a_byte_level_model_wants_around_a_text(settings: dict[str, Any], begins: bool, ends: bool) -> None:
    """Oracle: ids by hand; of byte-level models only Llama 3's want a start token without saying so."""
    tokenizer = gpt2(**{"bos_token_id": len(ALPHABET) + 4} | settings)
    start, end = (tokenizer.id_of(token) for token in ("<|im_start|>", "<|im_end|>"))
    inner = tokenizer.encode("ab", add_bos=False)
    assert inner == [ALPHABET.index("a"), ALPHABET.index("b")]
    assert tokenizer.encode("ab") == [start] * begins + inner + [end] * ends


def test_ids_that_end_a_text() -> None:
    """Oracle: by hand: end of text, of turn and of message, each once."""
    first = len(ALPHABET) + 4
    tokenizer = gpt2(eos_token_id=first + 1, eot_token_id=first, eom_token_id=first + 1)
    assert tokenizer.eos_ids == (first + 1, first)
    assert gpt2(eos_token_id=...).eos_ids == ()
    assert gpt2(bos_token_id=10**6).bos_id is None


def test_tokens_that_stand_twice_in_a_table() -> None:
    """Oracle: by hand: the first counts (files pad their tables with repetitions)."""
    tokenizer = gpt2(tokens=[*ALPHABET, "34", "12", "he", "hello", "<|im_start|>", "he"], eos_token_id=...)
    assert tokenizer.encode("he") == [len(ALPHABET) + 2]


def test_ids_beyond_the_vocabulary_decode_to_nothing() -> None:
    """Oracle: the rest of the text; models have padding rows."""
    for tokenizer in (byte_level(), sentencepiece(), gpt2()):
        ids = tokenizer.encode("ab", add_bos=False)
        assert tokenizer.decode([*ids, tokenizer.vocab_size, 10**6]) == "ab"


def test_named_templates() -> None:
    """Oracle: by hand: the template for tools is kept apart, under a key of its own."""
    table = {"model": "llama", "tokens": ["<unk>", "a"], "scores": [0.0, -1.0], "token_type": [UNKNOWN, NORMAL]}
    whole = fields(**table) | {"tokenizer.chat_template": "plain", "tokenizer.chat_template.tool_use": "{{ tools }}"}
    found = Tokenizer.from_gguf(whole | {"tokenizer.chat_templates": ["tool_use"]})
    assert (found.chat_template, found.tool_template) == ("plain", "{{ tools }}")
    assert "tools" in found.template_variables


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("tekken", ["Hello", "World", " ", "1", "2", "3", "!!\n"]),
        ("gpt-4o", ["Hello", "World", " ", "123", "!!\n"]),
        ("falcon", ["HelloWorld", " ", "123", "!!", "\n"]),
        ("deepseek-coder", ["HelloWorld", " ", "1", "2", "3", "!!", "\n"]),
        ("deepseek-llm", ["HelloWorld", " ", "123", "!!", "\n"]),
        ("qwen35", ["HelloWorld", " ", "1", "2", "3", "!!\n"]),
    ],
)
def test_words_of_more_names(pre: str, words: list[str]) -> None:
    """Oracle: by hand, from the published patterns: words are what the cuts leave whole."""
    found = gpt2(pre=pre)._backend.pre_tokenizer.pre_tokenize_str("HelloWorld 123!!\n")
    assert [word.replace("Ġ", " ").replace("Ċ", "\n") for word, _ in found] == words
