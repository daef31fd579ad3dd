"""Tables of GGUF files for tokenizers: read back, they give the same ids; what they cannot say is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from braidlm.errors import InputError, LoadingWarning
from braidlm.text.gguf_vocabulary import Special, gguf_tables
from braidlm.text.tokenizer import Settings, Tokenizer
from braidlm.text.words import BY_NAME
from tests.text.made import ALPHABET, CONTROL, SPECIAL, TEXTS, TOOL, UNKNOWN, backend, byte_level, gpt2, sentencepiece
from tests.text.sentencepieces import trained

UNUSED, USER_DEFINED, BYTE = 5, 4, 6
# One name of each rule, as llama.cpp calls it.
RULES = "gpt-2 smollm llama-bpe dbrx qwen2 qwen35 tekken gpt-4o deepseek-v3 deepseek-coder deepseek-llm falcon".split()


def again(tokenizer: Tokenizer, size: int | None = None, **more: Any) -> Tokenizer:
    found = Tokenizer.from_gguf(tokenizer.gguf_metadata(size or tokenizer.vocab_size, **more))
    assert found is not None
    return found


def table(tokenizer: Tokenizer, name: str, size: int | None = None, **more: Any) -> Any:
    return tokenizer.gguf_metadata(size or tokenizer.vocab_size, **more).get(f"tokenizer.ggml.{name}")


def same(found: Tokenizer, expected: Tokenizer) -> None:
    for text in (*TEXTS, TOOL, f"x{TOOL} y", "</s> <s>the"):
        assert found.encode(text) == expected.encode(text)
        assert found.encode(text, special=False, add_bos=False) == expected.encode(text, special=False, add_bos=False)
        assert found.decode(found.encode(text)) == expected.decode(expected.encode(text))
    assert (found.bos_id, found.eos_ids, found.special_ids) == (expected.bos_id, expected.eos_ids, expected.special_ids)
    assert found.chat_template == expected.chat_template


@pytest.mark.parametrize("pre", RULES)
def test_byte_level_rules(pre: str) -> None:
    """Oracle: the tokenizer that was made by the rule of this name: the name is found, and the ids are the same."""
    tokenizer = gpt2(pre=pre, add_bos_token=False)
    assert table(tokenizer, "pre") == pre
    same(again(tokenizer), tokenizer)


def test_the_rule_of_the_file_is_kept() -> None:
    """Oracle: the name in the file, if it means the same as what was found, else the one that does."""
    starcoder, qwen = gpt2(pre="starcoder"), gpt2(pre="qwen2")
    assert (table(starcoder, "pre"), table(again(starcoder), "pre")) == ("starcoder", "starcoder")
    for tokenizer, name, kept in ((starcoder, "no-such-rule", "smollm"), (qwen, "starcoder", "qwen2")):
        assert table(Tokenizer(tokenizer._backend, Settings({}, pre=name)), "pre") == kept
    assert {"starcoder", "smollm"} <= BY_NAME.keys()


PUBLISHED = {
    "dbrx": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def split(pattern: str, behavior: str = "isolated", invert: bool = False, whole: bool = False) -> Tokenizer:
    made = Backend(models.BPE(vocab={token: i for i, token in enumerate(ALPHABET)}, merges=[], ignore_merges=whole))
    cut = pre_tokenizers.Split(Regex(pattern), behavior, invert)
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    return Tokenizer(made, Settings({}))


@pytest.mark.parametrize("name", PUBLISHED)
def test_rules_as_files_spell_them(name: str) -> None:
    """Oracle: the rule's name: it is found by what the pattern does, however it is spelled."""
    assert table(split(PUBLISHED[name]), "pre") == name
    assert table(split(PUBLISHED[name], "removed", invert=True), "pre") == name


def test_rules_that_differ_in_whole_words_alone() -> None:
    """Oracle: llama.cpp's two names for one pattern: Llama 3 takes a word that is a token, DBRX merges it."""
    assert gpt2(pre="llama-bpe").encode("hello", add_bos=False) != gpt2(pre="dbrx").encode("hello", add_bos=False)
    assert (table(gpt2(pre="llama-bpe"), "pre"), table(gpt2(pre="dbrx"), "pre")) == ("llama-bpe", "dbrx")


def test_rules_without_a_name() -> None:
    """Oracle: the sentence, which says how to write the file all the same."""
    with pytest.raises(InputError, match=r"cuts words by a rule that has no name there\); --no-tokenizer") as caught:
        table(split(r"\s+"), "pre")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece(prefix: bool) -> None:
    """Oracle: the tokenizer that was read from such tables: the same ids, kinds and order of scores."""
    tokenizer = sentencepiece(add_space_prefix=prefix)
    same(again(tokenizer), tokenizer)
    kinds = table(tokenizer, "token_type")
    assert kinds[:3] == [UNKNOWN, CONTROL, CONTROL] and set(kinds[3:259]) == {BYTE} and kinds[-1] == USER_DEFINED
    assert table(tokenizer, "add_space_prefix") is prefix
    assert table(tokenizer, "model") == "llama"


def test_a_space_before_a_text_alone() -> None:
    """Oracle: by hand: the tables have a space before a text; that they put it after control tokens too is told."""
    made = Backend.from_str(sentencepiece(add_space_prefix=False).to_json())
    made.normalizer = None
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer = Tokenizer(made, Settings({}))
    with pytest.warns(LoadingWarning, match="in chats their ids may differ"):
        tables = tokenizer.gguf_metadata(tokenizer.vocab_size)
    assert tables["tokenizer.ggml.add_space_prefix"] is True


def test_a_space_beside_pieces_of_the_users(tmp_path: Path) -> None:
    """Oracle: the tokenizer of the file, on texts without such pieces; that others may differ is told."""
    (tmp_path / "tokenizer.model").write_bytes(trained("user's with prefix"))
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer is not None
    with pytest.warns(LoadingWarning, match="in chats their ids may differ"):
        found = again(tokenizer)
    for text in ("the dog", " two  spaces", "naïve 😀", "</s>", ""):
        assert found.encode(text) == tokenizer.encode(text)


def test_ids_without_a_token_are_filled() -> None:
    """Oracle: by hand: the model's rows beyond the vocabulary are unused tokens, and no text gives them."""
    tokenizer = gpt2()
    size = tokenizer.vocab_size
    tokens, kinds = table(tokenizer, "tokens", size + 2), table(tokenizer, "token_type", size + 2)
    assert tokens[size:] == [f"[PAD{size}]", f"[PAD{size + 1}]"]
    assert kinds[size:] == [UNUSED, UNUSED]
    same(again(tokenizer, size + 2), tokenizer)
    assert max(again(tokenizer, size + 2).encode(f"[PAD{size}]")) < size


def test_more_tokens_than_rows() -> None:
    """Oracle: the sentence has both numbers."""
    tokenizer = gpt2()
    with pytest.raises(InputError, match=rf"has the id {tokenizer.largest_id}, but the model has 10 rows of tokens"):
        tokenizer.gguf_metadata(10)


@pytest.mark.parametrize("ends", [(), (0,), (0, 1), (0, 1, 5, 9)])
def test_ids_that_end_a_text(ends: tuple[int, ...]) -> None:
    """Oracle: the tokenizer's own end and the model's further ones, in this order, however many."""
    tokenizer = byte_level()
    own = tokenizer.id_of("<|im_end|>")
    assert set(again(tokenizer, ends=ends).eos_ids) == {own, *ends}
    assert again(tokenizer, ends=ends).eos_ids[0] == own


@pytest.mark.parametrize(("before", "after"), [(["<s>"], []), (["<s>"], ["</s>"]), ([], ["</s>"]), ([], [])])
def test_tokens_around_a_text(before: list[str], after: list[str]) -> None:
    """Oracle: ids by hand; a start token that has no name gets one."""
    made = Backend.from_str(sentencepiece().to_json())
    ids = [(token, made.token_to_id(token)) for token in (*before, *after)]
    if ids:
        made.post_processor = processors.TemplateProcessing(single=[*before, "$A", *after], special_tokens=ids)
    else:
        made.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer = Tokenizer(made, Settings({"eos_token": "</s>"}))
    inner = tokenizer.encode("the ab", add_bos=False)
    found = again(tokenizer)
    assert found.encode("the ab") == [*([1] if before else []), *inner, *([2] if after else [])]
    assert tokenizer.gguf_metadata(tokenizer.vocab_size)["tokenizer.ggml.add_bos_token"] is bool(before)


def test_other_tokens_around_a_text() -> None:
    """Oracle: the sentence names them: tables have a place for one start token."""
    made = Backend.from_str(sentencepiece().to_json())
    ids = [("<s>", 1), ("</s>", 2)]
    made.post_processor = processors.TemplateProcessing(single="<s> </s> $A", special_tokens=ids)
    with pytest.raises(InputError, match="it puts '<s>', '</s>' before every text"):
        Tokenizer(made, Settings({})).gguf_metadata(400)


def test_chat_templates_by_name() -> None:
    """Oracle: the templates that were given."""
    settings = Settings({}, "plain", other_templates={"tool_use": "with tools", "rag": "with documents"})
    tokenizer = Tokenizer(backend(), settings)
    found = tokenizer.gguf_metadata(400)
    assert found["tokenizer.chat_template"] == "plain"
    assert found["tokenizer.chat_templates"] == ["tool_use", "rag"]
    assert found["tokenizer.chat_template.rag"] == "with documents"
    assert (again(tokenizer, 400).chat_template, again(tokenizer, 400).tool_template) == ("plain", "with tools")


def others() -> dict[str, tuple[Backend, str]]:
    lower = Backend.from_str(backend().to_str())
    lower.normalizer = normalizers.Lowercase()
    spaces = Backend.from_str(sentencepiece().to_json())
    spaces.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    twice, fewer = json.loads(sentencepiece().to_json()), json.loads(sentencepiece().to_json())
    twice["model"]["merges"] = [["▁t", "h"], ["a", "b"], ["▁", "th"]]
    fewer["model"]["merges"].remove(["▁t", "h"])
    prefixed = Backend.from_str(backend().to_str())
    prefixed.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return {
        "unigram": (Backend(models.Unigram([("a", 0.0), ("b", -1.0)], 0)), "a Unigram model"),
        "words": (Backend(models.WordLevel({"a": 0, "b": 1}, "a")), "a WordLevel model"),
        "bare": (Backend(models.BPE({"a": 0, "b": 1}, [])), "a BPE model that is neither"),
        "lower case": (lower, "a normalizer before byte-level BPE"),
        "composed": (spaces, "a BPE model that is neither"),
        "a space before": (prefixed, "cuts words by a rule"),
        "merges in no order of pieces": (Backend.from_str(json.dumps(twice)), "'▁th' is made at two places"),
        "a merge left out": (Backend.from_str(json.dumps(fewer)), "do not make '▁th' of '▁t' and 'h'"),
    }


@pytest.mark.parametrize("kind", others())
def test_what_tables_cannot_say(kind: str) -> None:
    """Oracle: the sentence says what it is, and how to write the file all the same."""
    made, words = others()[kind]
    with pytest.raises(InputError) as caught:
        Tokenizer(made, Settings({})).gguf_metadata(400)
    assert words in str(caught.value) and "--no-tokenizer" in str(caught.value) and "\n" not in str(caught.value)


def test_whole_words_that_merges_do_not_make() -> None:
    """Oracle: by hand: a rule that takes whole words is a rule of its own where a token needs it, else it is not."""
    made = json.loads(split(PUBLISHED["qwen2"], whole=True).to_json())
    assert table(Tokenizer(Backend.from_str(json.dumps(made)), Settings({})), "pre") == "qwen2"
    made["model"]["vocab"]["he"] = len(ALPHABET)
    with pytest.raises(InputError, match="cuts words by a rule"):
        table(Tokenizer(Backend.from_str(json.dumps(made)), Settings({})), "pre")


def test_added_tokens_keep_their_kind() -> None:
    """Oracle: by hand: what a library calls special is control, other added tokens are the user's."""
    made = Backend.from_str(backend().to_str())
    made.add_tokens([AddedToken("<mine>", normalized=False), AddedToken("<ctl>", special=True, normalized=False)])
    tables = gguf_tables(made, Special({}, ()), made.get_vocab_size())
    kinds = dict(zip(tables["tokenizer.ggml.tokens"], tables["tokenizer.ggml.token_type"]))
    assert (kinds["<mine>"], kinds["<ctl>"], kinds[SPECIAL[0]], kinds["a"]) == (USER_DEFINED, CONTROL, CONTROL, 1)
