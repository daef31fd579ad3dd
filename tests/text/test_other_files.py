"""Vocabularies in tekken.json, in tiktoken's files, and in vocab.json with merges.txt."""

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
import transformers

from braidlm.errors import CheckpointError
from braidlm.text.byte_ranks import _SPELLING
from braidlm.text.tokenizer import Tokenizer
from braidlm.text.words import LLAMA3, TEKKEN
from tests.text.made import SPECIAL, TEXTS, backend, directory, gpt2, opened

MORE = (
    *TEXTS,
    "HelloWorld USERs Éa 12345",
    "\r\nwin\r\n",
    " " * 20 + "x",
    "a\u0301 \ufb01 \xbd",
    "[INST] x </s>",
    "don't WE'LL",
)


def ranks() -> list[bytes]:
    """The byte strings of a small byte-level vocabulary: all bytes, then what its merges make."""
    bytes_of = {text: byte for byte, text in _SPELLING.items()}
    tokens = [token for token in backend().get_vocab() if token not in SPECIAL]
    found = [bytes(bytes_of[letter] for letter in token) for token in tokens]
    return sorted(found, key=lambda token: (len(token) > 1, backend().token_to_id("".join(map(_SPELLING.get, token)))))


def by_ranks(text: str, pattern: str, first: int) -> list[int]:
    """A text's ids by definition: words that are tokens as they are, else the best neighbours again and again."""
    rank = {token: first + i for i, token in enumerate(ranks())}
    found: list[int] = []
    for word in regex.findall(pattern, text):
        parts = [word.encode()] if word.encode() in rank else [bytes([byte]) for byte in word.encode()]
        while pairs := [(rank[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in rank]:
            at = min(pairs)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        found += [rank[part] for part in parts]
    return found


def tekken(**more: Any) -> dict[str, Any]:
    vocab = [{"rank": i, "token_bytes": base64.b64encode(token).decode()} for i, token in enumerate(ranks())]
    config = {"pattern": TEKKEN, "default_vocab_size": len(vocab) + 30, "default_num_special_tokens": 30}
    extra = [{"rank": len(vocab), "token_bytes": "AAAA"}]  # beyond the size: not used
    return {"config": config, "vocab": [*vocab, *extra]} | more


def test_tekken(tmp_path: Path) -> None:
    """Oracle: byte-pair merging by its definition; control tokens by hand, those of Mistral's older files."""
    (tmp_path / "tekken.json").write_text(json.dumps(tekken()))
    found = opened(tmp_path)
    for text in MORE:
        assert found.encode(text, special=False, add_bos=False) == by_ranks(text, TEKKEN, 30), text
        assert found.decode(found.encode(text, special=False)) == text
    assert found.encode("[INST]a[/INST]</s>") == [1, 3, found.id_of("a"), 4, 2]
    assert (found.bos_id, found.eos_ids, found.id_of("<pad>"), found.id_of("<SPECIAL_29>")) == (1, (2,), 11, 29)
    assert found.vocab_size == len(ranks()) + 30


def test_tekken_with_its_own_control_tokens(tmp_path: Path) -> None:
    """Oracle: ids by hand: a file of version 7 lists its control tokens."""
    names = ["<unk>", "<s>", "</s>", "[THINK]"]
    listed = [{"rank": i, "token_str": name, "is_control": True} for i, name in enumerate(names)]
    (tmp_path / "tekken.json").write_text(json.dumps(tekken(special_tokens=listed)))
    found = opened(tmp_path)
    assert found.encode("[THINK]") == [1, 3]
    assert found.id_of("[INST]") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("config"),
        lambda data: data["vocab"].pop(3),
        lambda data: data["vocab"][7].update(token_bytes="AA=="),
        lambda data: data["vocab"][280].update(token_bytes="?"),
        lambda data: data["config"].update(default_vocab_size=10**6),
        lambda data: data["config"].update(default_num_special_tokens=3),
        lambda data: data["config"].update(default_num_special_tokens=2**40),
        lambda data: data["config"].update(default_num_special_tokens=-1),
        lambda data: data["config"].update(default_num_special_tokens=2**40, default_vocab_size=2**41),
        lambda data: data["config"].update(pattern="("),
        lambda data: data.update(special_tokens=[{"rank": 99, "token_str": "x"}]),
        lambda data: data.update(vocab=3),
    ],
)
def test_damaged_tekken(damage: Any, tmp_path: Path) -> None:
    """Oracle: one sentence with the file's name."""
    data = tekken()
    damage(data)
    (tmp_path / "tekken.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"tekken\.json is damaged or no tokenizer") as caught:
        Tokenizer.from_directory(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.model", "llama.tiktoken"])
def test_tiktoken(name: str, tmp_path: Path) -> None:
    """Oracle: byte-pair merging by its definition; control tokens are those of tokenizer_config.json."""
    lines = [f"{base64.b64encode(token).decode()} {i}" for i, token in enumerate(ranks())]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"nothing says which control tokens belong to it"):
        Tokenizer.from_directory(tmp_path)
    added = {str(len(lines) + 4): {"content": "<|im_end|>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    found = opened(tmp_path)
    for text in MORE:
        assert found.encode(text, special=False) == by_ranks(text, LLAMA3.patterns[0], 0), text
    assert found.encode("a<|im_end|>") == [found.id_of("a"), len(lines) + 4]
    (tmp_path / name).write_text("\n".join(lines[5:]))
    with pytest.raises(CheckpointError, match=r"ranks must be 0 to"):
        Tokenizer.from_directory(tmp_path)


def two_files(path: Path, config: dict[str, Any], **files: Any) -> Path:
    directory(path, config, **files)
    whole = json.loads((path / "tokenizer.json").read_text())["model"]
    (path / "tokenizer.json").unlink()
    (path / "vocab.json").write_text(json.dumps(whole["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in whole["merges"]]
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return path


ADDED = {"content": "<|im_end|>", "lstrip": False, "normalized": False, "rstrip": False, "special": True}
NAMED = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("GPT2Tokenizer", NAMED),
        ("GPT2TokenizerFast", NAMED | {"add_prefix_space": True, "add_bos_token": True}),
        ("CodeGenTokenizer", NAMED),
        ("Qwen2Tokenizer", {"added_tokens_decoder": {"2": ADDED | {"single_word": False}}, "eos_token": "<|im_end|>"}),
        ("RobertaTokenizer", NAMED | {"cls_token": "<|endoftext|>", "sep_token": "<|endoftext|>"}),
    ],
)
def test_vocab_and_merges(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: transformers' class of this name on the same files."""
    found = opened(two_files(tmp_path, {"tokenizer_class": name, **config}))
    reference = getattr(transformers, name).from_pretrained(tmp_path)
    for text in (*MORE, "a<|endoftext|>b"):
        assert found.encode(text) == reference.encode(text), text
        assert found.encode(text, add_bos=False) == reference.encode(text, add_special_tokens=False)
    assert found.eos_ids == (reference.eos_token_id,)


def test_vocab_and_merges_of_no_class(tmp_path: Path) -> None:
    """Oracle: the vocabulary from which the files were made; tokens of added_tokens.json at their ids."""
    found = opened(two_files(tmp_path, {}, added_tokens={"<|im_end|>": 2, "<new>": 310}))
    for text in TEXTS:
        assert found.encode(text, special=False) == backend().encode(text.replace("<|", "<\u2063|")).ids or "<|" in text
    assert found.encode("<new>") == [310]
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer"}')
    with pytest.raises(CheckpointError, match="how CTRLTokenizer cuts words is not known"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        ('{"a": 1', "a b"),
        ("{}", ""),
        ('{"a": "x"}', ""),
        ('{"a": 4294967295}', ""),
        ('{"a": 0, "b": 1}', "a b\n"),
        ("[]", ""),
    ],
)
def test_damaged_vocab_and_merges(vocab: str, merges: str, tmp_path: Path) -> None:
    """Oracle: one sentence with the file's name."""
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(CheckpointError, match=r"vocab\.json") as caught:
        Tokenizer.from_directory(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["tekken.json", "tokenizer.model", "sentencepiece", "GGUF"])
@pytest.mark.parametrize(("length", "count"), [(1 << 20, 1), (2000, 9000)], ids=["one", "many"])
def test_tokens_without_end(file: str, length: int, count: int, tmp_path: Path) -> None:
    """Oracle: one sentence with both lengths; cut at every place, such tokens take hours and all memory."""
    tokens = [*ranks(), *(f"{number:05d}".encode() * (length // 5) for number in range(count))]
    if file == "tekken.json":
        vocab = [{"rank": i, "token_bytes": base64.b64encode(token).decode()} for i, token in enumerate(tokens)]
        config = tekken()["config"] | {"default_vocab_size": len(vocab) + 30}
        (tmp_path / file).write_text(json.dumps(tekken(vocab=vocab, config=config)))
    elif file == "tokenizer.model":
        lines = [base64.b64encode(token) + b" %d" % i for i, token in enumerate(tokens)]
        (tmp_path / file).write_bytes(b"\n".join(lines))
        (tmp_path / "added_tokens.json").write_text(json.dumps({"<end>": len(tokens)}))
    elif file == "sentencepiece":
        (tmp_path / "tokenizer.model").write_bytes(b"".join(map(_piece, tokens)))
    texts = [token.decode("latin-1") for token in tokens]
    with pytest.raises(CheckpointError, match=r"longest token has \d+ characters and all of them \d+,") as caught:
        _ = gpt2(model="llama", tokens=texts, token_type=...) if file == "GGUF" else Tokenizer.from_directory(tmp_path)
    assert "\n" not in str(caught.value)


def _piece(token: bytes) -> bytes:
    """A piece in the wire format of SentencePiece's files."""
    text = token.decode("latin-1").encode()
    inner = b"\x0a" + _varint(len(text)) + text
    return b"\x0a" + _varint(len(inner)) + inner


def _varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + _varint(value >> 7) if value > 127 else bytes([value])


def test_order_of_preference(tmp_path: Path) -> None:
    """Oracle: by hand: tokenizer.json, then tekken.json, then vocab.json with merges.txt."""
    two_files(tmp_path, {})
    directory(tmp_path)
    (tmp_path / "tekken.json").write_text(json.dumps(tekken()))
    sizes = []
    for name in ("tokenizer.json", "tekken.json", "vocab.json"):
        sizes.append(opened(tmp_path).vocab_size)
        (tmp_path / name).unlink()
    assert sizes == [299, len(ranks()) + 30, 299]
