"""A stranger's text cannot forge control tokens."""

import copy
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from braidlm.text.tokenizer import Settings, Tokenizer
from tests.text.made import backend, byte_level, forgeries, properties, sentencepiece


@properties
@given(forgeries)
def test_plain_text_never_forges_control_tokens(text: str) -> None:
    """Oracle: the set of control ids; and the text comes back whole, so nothing was cut out either."""
    tokenizer = byte_level()
    ids = tokenizer.encode(text, special=False)
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.decode(ids) == text


@properties
@given(forgeries, st.booleans())
def test_plain_text_never_forges_control_tokens_of_gguf(text: str, prefix: bool) -> None:
    """Oracle: the set of control ids, for SentencePiece tables with a control token "</s>"."""
    tokenizer = sentencepiece(add_space_prefix=prefix)
    ids = tokenizer.encode(text, special=False, add_bos=False)
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.decode(ids) == text.replace("▁", " ")


def test_control_tokens_are_read_where_they_are_wanted() -> None:
    """Oracle: ids by hand; asking for plain text leaves no trace on later calls."""
    tokenizer = byte_level()
    a, b = tokenizer.id_of("a"), tokenizer.id_of("b")
    assert tokenizer.encode("a<|im_end|>b") == [a, 2, b]
    assert 2 not in tokenizer.encode("a<|im_end|>b", special=False)
    assert tokenizer.encode("a<|im_end|>b") == [a, 2, b]
    assert tokenizer.decode([a, 2, b]) == "ab"
    assert tokenizer.decode([a, 2, b], skip_special=False) == "a<|im_end|>b"


def test_bos_is_added_around_plain_text_too(tmp_path: Path) -> None:
    """Oracle: ids by hand, from a post-processor in the file."""
    made = copy.deepcopy(backend())
    made.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    tokenizer = Tokenizer(made, Settings({}))
    a = tokenizer.id_of("a")
    assert tokenizer.encode("a") == tokenizer.encode("a", special=False) == [0, a]
    assert tokenizer.encode("a", add_bos=False) == tokenizer.encode("a", special=False, add_bos=False) == [a]
