"""SentencePiece model files without a tokenizer.json."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from braidlm.errors import CheckpointError
from braidlm.text.sentencepiece_file import parse_sentencepiece
from braidlm.text.tokenizer import Tokenizer
from tests.text.made import opened, properties, saved
from tests.text.sentencepieces import MODELS, trained

TEXTS = [
    *("fox fox", "<tool> x", "<tool><tool>"),
    *("", " ", "  ", "\t", "\n", "\n\n\n", "a", "The quick", " the dog", "the dog ", "  two  spaces  in  it  "),
    *("naïve café — 数える 😀", "e\u0301 Vie\u0323\u0302t a\u0302\u0301", "👩‍👩‍👧 🇩🇪 \u200d", "\x00\x01\x7f"),
    *("def f(x):\n    return x + 12345\n\n\n", "\r\nwin\r\n", "1234567890 3.14", "x" * 60, " " * 40, "don't they'll"),
    *("<s>", "</s> x", "<unk>", "<0x41><0x00>", "<tool>", "a <tool> b", "\ufb01 \xbd \uff21 \ufdfa \uff76\uff9e"),
    *(
        "\u00a0nbsp\u2003em",
        "\ufeffbom",
        "\u2028\u2029",
        "\u2581 _ \u2581\u2581",
        "\U0001d573\U0001d58a",
        "한국어 عربي",
    ),
    *("supercalifragilisticexpialidocious" * 3, "हिन्दी ไทย", "if (a<b && c>d) { return !x; }"),
]


def both(name: str, path: Path, file: str = "tokenizer.model") -> tuple[Tokenizer, Any]:
    (path / file).write_bytes(trained(name))
    return opened(path), sentencepiece.SentencePieceProcessor(model_proto=trained(name))


@pytest.mark.parametrize("name", MODELS)
def test_ids(name: str, tmp_path: Path) -> None:
    """Oracle: the sentencepiece library, on texts of every kind; a text is never read as control tokens there."""
    found, reference = both(name, tmp_path)
    for text in TEXTS:
        if name == "user's with prefix" and text == "<tool>":
            continue  # the library cannot tell such a text from the piece itself
        assert found.encode(text, special=False, add_bos=False) == reference.encode(text), text
    assert found.encode("the dog") == [1, *reference.encode("the dog")]
    assert (found.bos_id, found.eos_ids, found.vocab_size) == (1, (2,), reference.get_piece_size())


@pytest.mark.parametrize("name", ["bpe", "bpe without bytes", "unigram", "user's", "user's with prefix"])
def test_ids_of_mixed_texts(name: str, tmp_path: Path) -> None:
    """Oracle: the sentencepiece library on texts put together of pieces, spaces and strange characters."""
    found, reference = both(name, tmp_path)
    parts = st.sampled_from(
        ["the", " ", "  ", "fox", "é", "\u0301", "数", "😀", "\n", "12", "qu", "<tool>", "\u2581", "."]
    )

    @properties
    @given(st.lists(parts, max_size=12).map("".join))
    def check(text: str) -> None:
        if name == "user's with prefix" and text in ("<tool>", "fox"):
            return  # the library cannot tell such a text from the piece itself
        assert found.encode(text, special=False, add_bos=False) == reference.encode(text)

    check()


@pytest.mark.parametrize("name", ["bpe", "unigram", "bpe nmt_nfkc", "user's"])
def test_texts(name: str, tmp_path: Path) -> None:
    """Oracle: the sentencepiece library's own texts of its ids; of a vocabulary with all bytes, the text itself."""
    found, reference = both(name, tmp_path)
    for text in TEXTS:
        if name == "unigram nmt_nfkc" or (name == "unigram" and text.startswith("\u2581")):
            continue  # it trims such a text once more
        ids = reference.encode(text)
        assert found.decode(ids) == reference.decode(ids), text
        if name in ("bpe", "user's") and "\u2581" not in text:
            assert found.decode(found.encode(text, special=False)) == text
            stream = found.stream()
            assert "".join(map(stream.push, ids)) + stream.flush() == text


def test_control_tokens(tmp_path: Path) -> None:
    """Oracle: the library's ids with the control tokens by hand; `legacy` false puts no space behind one."""
    found, reference = both("bpe", tmp_path)
    inner = reference.encode("the dog")
    assert found.encode("<s>the dog</s>", add_bos=False) == [1, *inner, 2]
    assert found.decode([1, *inner, 2]) == "the dog"
    assert found.special_ids == {0, 1, 2}
    (tmp_path / "tokenizer_config.json").write_text('{"legacy": false, "add_bos_token": false, "add_eos_token": true}')
    assert opened(tmp_path).encode("the dog<s>the") == [*inner, 1, *_ids(reference, "the"), 2]


def test_settings_that_are_null(tmp_path: Path) -> None:
    """Oracle: the same directory without these settings, as published configs mean it."""
    plain, reference = both("bpe", tmp_path)
    names = ("add_prefix_space", "legacy", "add_bos_token", "add_eos_token", "chat_template", "pad_token")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(dict.fromkeys(names)))
    for text in ("the dog", "<s>the dog</s>the"):
        assert opened(tmp_path).encode(text) == plain.encode(text)
    assert plain.encode("the dog") == [1, *reference.encode("the dog")]


def _ids(processor: Any, text: str) -> list[int]:
    """Ids of a text that stands behind another one."""
    before = processor.encode("\n")
    return processor.encode(f"\n{text}")[len(before) :]


def test_forged_control_tokens_of_unigram(tmp_path: Path) -> None:
    """Oracle: the sentencepiece library: a piece that is a control token is never found in a text."""
    found, reference = both("unigram nmt_nfkc", tmp_path)
    for text in ("<s>", "a</s>b", "</s></s>"):
        assert found.encode(text, special=False, add_bos=False) == reference.encode(text)
        assert not found.special_ids - {0} & set(found.encode(text, special=False, add_bos=False))


def test_added_tokens(tmp_path: Path) -> None:
    """Oracle: ids by hand: added beside the model, at their ids, over a gap too."""
    size = len(parse_sentencepiece(trained("bpe")).pieces)
    (tmp_path / "added_tokens.json").write_text(f'{{"<|im_end|>": {size}, "<plain>": {size + 5}}}')
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|im_end|>"}}')
    found, reference = both("bpe", tmp_path)
    assert found.encode("<|im_end|><plain>") == [1, size, size + 5]
    assert found.eos_ids == (size,)
    assert found.special_ids == {0, 1, 2, size}
    assert found.largest_id == size + 5
    (tmp_path / "added_tokens.json").write_text('{"<far>": 1048576}')
    with pytest.raises(CheckpointError, match="'1048576' must be a number below 1048576"):
        opened(tmp_path)
    assert found.encode("the fox", add_bos=False) == reference.encode("the fox")


def test_names_of_mistral_s_files(tmp_path: Path) -> None:
    """Oracle: the plain name counts first, then the newest version."""
    shutil.copy(_file(tmp_path, "bpe"), tmp_path / "tokenizer.model.v1")
    shutil.copy(_file(tmp_path, "characters"), tmp_path / "instruct.model.v3")
    (tmp_path / "given").unlink()
    characters = sentencepiece.SentencePieceProcessor(model_proto=trained("characters"))
    assert opened(tmp_path).encode("the fox", add_bos=False) == characters.encode("the fox")
    found, reference = both("bpe", tmp_path)
    assert found.encode("the fox", add_bos=False) == reference.encode("the fox")


def _file(path: Path, name: str) -> Path:
    (path / "given").write_bytes(trained(name))
    return path / "given"


@pytest.mark.parametrize("name", ["bpe", "unigram", "user's", "user's with prefix", "bpe nmt_nfkc"])
def test_saved(name: str, tmp_path: Path) -> None:
    """Oracle: transformers on what was saved as tokenizer.json, and our own reading of it."""
    found, _ = both(name, tmp_path)
    (tmp_path / "out").mkdir()
    reference, again = saved(found, tmp_path / "out"), opened(tmp_path / "out")
    for text in TEXTS:
        assert again.encode(text) == found.encode(text) == reference.encode(text)


def test_damaged_models(tmp_path: Path) -> None:
    """Oracle: one sentence with the file's name for any cut, and for bytes of another kind."""
    whole = trained("bpe")
    file = tmp_path / "tokenizer.model"
    for content in (b"", b"\x00", whole[:1], whole[:777], whole[:-1], b"\x0a\xff\xff\xff\xff\x0f", b"hello world\n"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"tokenizer\.model is damaged") as caught:
            Tokenizer.from_directory(tmp_path)
        assert "\n" not in str(caught.value)
