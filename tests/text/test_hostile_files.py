"""Files that make the tokenizers library panic, abort, or work without end."""

import json
from pathlib import Path
from typing import Any

import pytest

from braidlm.errors import BraidError, CheckpointError, InputError
from braidlm.text.library import guarded
from braidlm.text.tokenizer import Tokenizer
from tests.text.made import NORMAL, fields, opened

BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
AFTER = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
SEQUENCE_A, START = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<s>", "type_id": 0}}


def replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def several(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


def written(path: Path, model: dict[str, Any], **parts: Any) -> Path:
    whole = {"version": "1.0", "added_tokens": [], "model": model, **parts}
    (path / "tokenizer.json").write_text(json.dumps(whole))
    return path


IGNORED: dict[str, dict[str, Any]] = {
    "padding": {"padding": {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None,
                            "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}},
    "stride": {"truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 10}},
    "truncation": {"truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}},
}  # fmt: skip


@pytest.mark.parametrize("name", IGNORED)
def test_padding_and_truncation_are_not_done(name: str, tmp_path: Path) -> None:
    """Oracle: ids by hand: all of the text, and nothing else; nor are they saved."""
    found = opened(written(tmp_path, BPE, **IGNORED[name]))
    assert found.encode("ab" * 20) == [2] * 20
    found.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert saved["padding"] is None and saved["truncation"] is None


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "replace three times": (BPE, {"normalizer": several(*[replace("y" * 1000, Regex=".")] * 3)}, "texts too long"),
    "replace nothing": (BPE, {"normalizer": several(*[replace("y" * 1000, String="")] * 3)}, "texts too long"),
    "nested": (BPE, {"normalizer": several(several(replace("y" * 9, Regex=".")), replace("y" * 9, Regex="y"))}, "too"),
    "prepend": (BPE, {"normalizer": several(*[{"type": "Prepend", "prepend": "y" * 1000}] * 11)}, "texts too long"),
    "charsmap": (BPE, {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "precompiled_charsmap"),
    "charsmap's places": (
        BPE, {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "CAAAAP////////8AAAA="}}, "out of bounds"
    ),
    "prefix": ({**BPE, "continuing_subword_prefix": "##########"}, {}, "damaged"),
    "large id": ({**BPE, "vocab": {"a": 0, "b": 1, "ab": 2**32 - 1}}, {}, "has the token id 4294967295"),
    "no such control token": (BPE, {"post_processor": {**AFTER, "single": [START, SEQUENCE_A]}}, "damaged"),
    "second text": (BPE, {"post_processor": {**AFTER, "single": [{"Sequence": {"id": "B", "type_id": 0}}]}}, "damaged"),
    "many around": (
        BPE,
        {"post_processor": {**AFTER, "single": [START, SEQUENCE_A] * 999,
                            "special_tokens": {"<s>": {"id": "<s>", "ids": [1] * 9999, "tokens": ["a"] * 9999}}}},
        "puts more than 10000 tokens around a text",
    ),
    "length": (BPE, {"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "damaged"),
    "strip": (BPE, {"decoder": {"type": "Strip", "content": "a", "start": 2**40, "stop": 2**40}}, "strips more than"),
    "decoder": (BPE, {"decoder": replace("y" * 1000, String="a")}, "decoder that makes texts too long"),
    "depth": (BPE, {"normalizer": json.loads('{"type": "Sequence", "normalizers": [' * 300 + "]}" * 300)}, "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_loaded(name: str, tmp_path: Path) -> None:
    """Oracle: one sentence with the file's name, before any text is read."""
    model, parts, words = REFUSED[name]
    with pytest.raises(CheckpointError, match=words) as caught:
        Tokenizer.from_directory(written(tmp_path, model, **parts))
    assert str(tmp_path / "tokenizer.json") in str(caught.value) and "\n" not in str(caught.value)


UNREADABLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unigram": ({"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]], "byte_fallback": False}, {}),
    "wordpiece": (
        {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
         "vocab": {"a": 0}}, {}
    ),
    "wordlevel": ({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "x"}, {}),
    "bpe": ({**BPE, "unk_token": "<unk>"}, {}),
    "backtracking": (
        BPE,
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("special", [True, False])
def test_texts_that_cannot_be_read(name: str, special: bool, tmp_path: Path) -> None:
    """Oracle: by hand: what such a file can read is read, the rest is one sentence, panic or not."""
    model, parts = UNREADABLE[name]
    found = opened(written(tmp_path, model, **parts))
    assert found.encode("a", special=special) == [0]
    with pytest.raises(InputError, match="cannot read this text") as caught:
        found.encode("a" * 40 + "c", special=special)
    assert "\n" not in str(caught.value)


def test_empty_patterns_end(tmp_path: Path) -> None:
    """Oracle: ids by hand: a pattern that matches nothing is not an endless one: one more letter, or none."""
    for pattern in ({"String": ""}, {"Regex": "x*"}, {"Regex": "(?=a)"}):
        assert set(opened(written(tmp_path, BPE, normalizer=replace("b", **pattern))).encode("a")) <= {0, 1, 2}


def test_special_files(tmp_path: Path) -> None:
    """Oracle: one sentence: a device or a directory in the place of a tokenizer is not read."""
    for name in ("tokenizer.json", "tokenizer.model", "tekken.json"):
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match="regular file"):
            Tokenizer.from_directory(tmp_path)
        (tmp_path / name).unlink()


def test_interruption_passes() -> None:
    """Oracle: Python's own exception: only panics of the library are turned into sentences."""
    with pytest.raises(KeyboardInterrupt), guarded(lambda reason: BraidError(reason)):
        raise KeyboardInterrupt


TABLE: dict[str, Any] = {
    "model": "llama",
    "tokens": ["<unk>", "a", "b"],
    "scores": [0.0, -1.0, -2.0],
    "token_type": [2, 1, 1],
}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"scores": [0.0, float("nan"), 1.0]}, "score is infinite or no number"),
        ({"scores": [0.0, float("inf"), 1.0]}, "score is infinite or no number"),
        ({"scores": [0.0]}, "3 tokens, but 3 types and 1 scores"),
        ({"token_type": [2, 1]}, "3 tokens, but 2 types"),
        ({"token_type": [2, 1, 77]}, "a token is of kind 77, but kinds are 1 to 6"),
        ({"token_type": [2, 1, -1]}, "a token is of kind -1"),
        ({"tokens": []}, "damaged"),
        ({"tokens": ["a", 3, "b"]}, "tokens must be texts"),
        ({"tokens": 3}, "damaged"),
        ({"scores": ["a", "b", "c"]}, "damaged"),
        ({"eos_token_id": "x"}, "damaged"),
        ({"eos_token_id": 1.5}, "the eos token's id is 1.5"),
        ({"model": "t5", "precompiled_charsmap": [65, 65, 65]}, "damaged"),
        ({"model": "gpt2", "merges": ["a b"]}, "the merge 'a b' does not make a token"),
        ({"model": "gpt2", "merges": [3]}, "damaged"),
    ],
)
def test_damaged_gguf_tables(damage: dict[str, Any], words: str) -> None:
    """Oracle: one sentence, whatever is wrong with a table."""
    with pytest.raises(CheckpointError, match=words) as caught:
        Tokenizer.from_gguf(fields(**TABLE | damage))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", [2**32 - 1, 3, -1])
def test_gguf_ids_outside_the_table(missing: int) -> None:
    """Oracle: no such token, rather than a wrong one; 2^32-1 is how some tools write none."""
    found = Tokenizer.from_gguf(fields(**TABLE, bos_token_id=missing, eos_token_id=missing, add_eos_token=True))
    assert found is not None
    assert (found.bos_id, found.eos_ids) == (None, ())
    assert found.encode("ab", add_bos=True)


def test_gguf_files_that_say_they_have_no_tokenizer() -> None:
    """Oracle: nothing rather than an error; tokens of kind 0 are ordinary ones."""
    assert Tokenizer.from_gguf(fields(model="none")) is None
    assert Tokenizer.from_gguf(fields(model="no_vocab", tokens=["a"])) is None
    found = Tokenizer.from_gguf(fields(**TABLE | {"token_type": [2, 0, NORMAL]}, add_space_prefix=False))
    assert found is not None and found.encode("ab") == [1, 2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"eos_token": 5}, "'eos_token' is 5, but must be a token's text"),
        ({"eos_token": {"text": "<s>"}}, "'eos_token' is {'text': '<s>'}, but must be"),
        ({"bos_token": ["<s>"]}, r"'bos_token' is ['<s>'], but must be"),
        ({"add_bos_token": "false"}, "'add_bos_token' is 'false', but must be true, false or null"),
        ({"add_prefix_space": 0}, "'add_prefix_space' is 0, but must be true"),
        ({"additional_special_tokens": "<s>"}, "'additional_special_tokens' are '<s>', but must be a list"),
        ({"additional_special_tokens": [1]}, "'additional_special_tokens' is 1, but must be a token's text"),
        ({"added_tokens_decoder": []}, "'added_tokens_decoder' is [], but must be an object"),
        ({"eos_tokn": "<s>"}, "it says 'eos_tokn', which is not known; should it be 'eos_token'?"),
        ({"CHAT_TEMPLATE": "x"}, "it says 'CHAT_TEMPLATE', which is not known; should it be 'chat_template'?"),
        ({"chat_template": [{"name": "default"}]}, "which must have a name and a text"),
        ({"chat_template": ["x"]}, "lists 'x' as a chat template"),
    ],
)
def test_settings_of_another_kind(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Oracle: the sentence: nothing that is said and wrong is left out."""
    written(tmp_path, BPE)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_directory(tmp_path)
    assert words in str(caught.value)
    assert "tokenizer_config.json" in str(caught.value) or str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"normalizr": {"type": "NFC"}}, "it says 'normalizr', which is not known; should it be 'normalizer'?"),
        ({"DECODER": {"type": "ByteLevel"}}, "it says 'DECODER', which is not known; should it be 'decoder'?"),
        ({"model": BPE | {"ignore_merge": True}}, "it says 'ignore_merge', which is not known"),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "use_regexx": False}]}},
            "it says 'use_regexx', which is not known; should it be 'use_regex'?",
        ),
    ],
)
def test_misspelt_parts(parts: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Oracle: the sentence: the library passes over what it does not know."""
    written(tmp_path, BPE)
    assert Tokenizer.from_directory(tmp_path) is not None
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": BPE} | parts))
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_directory(tmp_path)
    assert words in str(caught.value)


def test_settings_as_others_write_them(tmp_path: Path) -> None:
    """Oracle: by hand: null and names that are not known here are no damage; a name that is there is not misspelt."""
    written(tmp_path, BPE)
    settings = {"eos_token": "a", "bos_token": None, "pad_token": {"content": "b"}, "add_bos_token": None}
    more = {"boi_token": "<i>", "eos_tokenx": 1, "extra_special_tokens": {}, "additional_special_tokens": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | more))
    found = Tokenizer.from_directory(tmp_path)
    assert found is not None
    assert found.eos_ids == (0,)
