"""Text to ids and back, chat templates, from every place where a checkpoint may keep them."""

import copy
import datetime
import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from braidlm import chat_template
from braidlm.errors import CheckpointError, InputError
from braidlm.tokenizer import Settings, Tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LINES = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "naïve café — 数える 😀 don't they'll",
    "def f(x):\n    return x + 12345\n\n\n",
]
TEXTS = (*LINES, "", " ", "a", "  two  spaces", "\t\n", "The\u00a0fox 👩‍👩‍👧", "<|im_end|>", "x<|im_start|>user")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [{"role": "user", "content": "Hé <b> & 'you'"}]
RENDERED = "<|im_start|>user\nHé <b> & 'you'<|im_end|>\n<|im_start|>assistant\n"

properties = settings(max_examples=60, deadline=None, derandomize=True)


@cache
def backend() -> Backend:
    """A byte-level BPE with 40 merges, trained on a few lines."""
    made = Backend(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=299, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(LINES * 4, trainer)
    return made


@cache
def byte_level() -> Tokenizer:
    return Tokenizer(backend(), Settings({"eos_token": "<|im_end|>"}, TEMPLATE))


def directory(path: Path, config: dict[str, Any] | None = None, **files: Any) -> Path:
    """A directory with the tokenizer, this config, and other files."""
    backend().save(str(path / "tokenizer.json"))
    if config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def opened(path: Path) -> Tokenizer:
    found = Tokenizer.from_directory(path)
    assert found is not None
    return found


# --- directories -----------------------------------------------------------------------------------------


def test_directory(tmp_path: Path) -> None:
    """Oracle: the tokenizers library itself on the same file."""
    found = opened(directory(tmp_path))
    for text in TEXTS:
        ids = backend().encode(text).ids
        assert found.encode(text) == ids
        assert found.decode(ids) == backend().decode(ids)
        assert found.decode(ids, skip_special=False) == text
    assert found.vocab_size == 299
    assert found.special_ids == {0, 1, 2}
    assert found.id_of("<|im_end|>") == 2
    assert found.id_of("nothing") is None
    assert found.bos_id is None
    assert found.eos_ids == ()
    assert found.chat_template is None


def as_object(text: str) -> dict[str, Any]:
    return {"__type": "AddedToken", "content": text, "lstrip": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": None}, {}),
        ({"bos_token": as_object("<|endoftext|>"), "eos_token": as_object("<|im_end|>")}, {}),
        ({}, {"special_tokens_map": {"bos_token": "<|endoftext|>", "eos_token": as_object("<|im_end|>")}}),
        (None, {"special_tokens_map": {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}}),
        ({"eos_token": "<|im_end|>"}, {"special_tokens_map": {"bos_token": "<|endoftext|>", "eos_token": "gone"}}),
    ],
    ids=["strings", "objects", "map and objects", "map alone", "config over map"],
)
def test_named_special_tokens(config: dict[str, Any] | None, files: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: ids by hand; the ways in which transformers has written the same tokens over the years."""
    found = opened(directory(tmp_path, config, **files))
    assert found.bos_id == 0
    assert found.eos_ids == (2,)


def test_a_named_token_outside_the_vocabulary(tmp_path: Path) -> None:
    """Oracle: no id rather than a wrong one."""
    found = opened(directory(tmp_path, {"bos_token": "<nowhere>", "eos_token": 7}))
    assert found.bos_id is None
    assert found.eos_ids == ()


def test_special_tokens_are_given_to_the_template(tmp_path: Path) -> None:
    """Oracle: text by hand; a token without a value is not defined."""
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}"
    config = {"bos_token": "<|endoftext|>", "eos_token": as_object("<|im_end|>"), "chat_template": template}
    found = opened(directory(tmp_path, config))
    assert found.render([{"role": "user", "content": "x"}]) == "<|endoftext|>x<|im_end|>False"


@pytest.mark.parametrize(
    ("written", "jinja"),
    [
        (TEMPLATE, None),
        ([{"name": "tool_use", "template": "no"}, {"name": "default", "template": TEMPLATE}], None),
        ([{"name": "only", "template": TEMPLATE}], None),
        (None, TEMPLATE),
        ("no", TEMPLATE),
    ],
    ids=["string", "named, with a default", "named", "file", "file over string"],
)
def test_places_of_chat_templates(written: Any, jinja: str | None, tmp_path: Path) -> None:
    """Oracle: the rendered text by hand."""
    place = directory(tmp_path, {} if written is None else {"chat_template": written})
    if jinja is not None:
        (tmp_path / "chat_template.jinja").write_text(jinja)
    assert opened(place).render(CHAT) == RENDERED


def test_no_tokenizer(tmp_path: Path) -> None:
    """Oracle: nothing where there is nothing, and a sentence where there is only another format."""
    assert Tokenizer.from_directory(tmp_path) is None
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(InputError, match=re.escape(str(tmp_path)) + r".*tokenizer\.model; a tokenizer\.json is needed"):
        Tokenizer.from_directory(tmp_path)


def test_damaged_tokenizer(tmp_path: Path) -> None:
    """Oracle: any cut or other content is refused in one sentence with the file's name."""
    file = directory(tmp_path) / "tokenizer.json"
    whole = file.read_bytes()
    broken = [whole[:cut] for cut in (0, 1, 500, len(whole) // 2, len(whole) - 1)]
    for content in (*broken, b"{}", b"[]", b"null", b'{"model": {"type": "Magic"}}', b"\xff\xfe\x00"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json is damaged") as caught:
            Tokenizer.from_directory(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer_config", "special_tokens_map"])
def test_damaged_settings(name: str, tmp_path: Path) -> None:
    """Oracle: the file beside the vocabulary is named."""
    directory(tmp_path)
    for content in (b"", b"{", b"\xff\xfe\x00"):
        (tmp_path / f"{name}.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name}\.json is no readable JSON") as caught:
            Tokenizer.from_directory(tmp_path)
        assert "\n" not in str(caught.value)


# --- control tokens in a stranger's text -------------------------------------------------------------------


forged = st.lists(st.one_of(st.sampled_from([*SPECIAL, "</s>", "<s>", "<|im_", "end|>"]), st.text(max_size=6)))
forgeries = forged.map("".join)


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


# --- GGUF tables -------------------------------------------------------------------------------------------

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
PIECES = "▁ a b t h e c o é \n th he the ▁t ▁th ▁the ab abc ▁a ▁ab bo co coat at oa ▁▁ ▁▁▁▁ cab ca".split(" ")
FIRST_BYTE, FIRST_PIECE = 3, 3 + 256
TOOL = "<tool>"


def fields(**given: Any) -> dict[str, Any]:
    """GGUF metadata; `...` leaves a key out."""
    return {f"tokenizer.ggml.{name}": value for name, value in given.items() if value is not ...}


@cache
def sentencepiece(**more: Any) -> Tokenizer:
    """Three control tokens, all bytes, pieces with falling scores, and one token of the user's."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, TOOL]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(PIECES), USER_DEFINED]
    scores = [0.0] * FIRST_PIECE + [-float(rank) for rank in range(len(PIECES))] + [0.0]
    named = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    table = {"model": "llama", "tokens": tokens, "scores": scores, "token_type": types}
    found = Tokenizer.from_gguf(fields(**table, **named, **more))
    assert found is not None
    return found


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def gpt2(**more: Any) -> Tokenizer:
    """All bytes, a few merges, a whole word that no merge makes, and two control tokens."""
    tokens = [*ALPHABET, "34", "12", "he", "hello", "<|im_start|>", "<|im_end|>"]
    types = [NORMAL] * (len(ALPHABET) + 4) + [CONTROL] * 2
    table = {"model": "gpt2", "tokens": tokens, "token_type": types, "merges": ["3 4", "1 2", "h e"]}
    found = Tokenizer.from_gguf(fields(**table | {"pre": "gpt-2", "eos_token_id": len(tokens) - 1} | more))
    assert found is not None
    return found


def texts_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([i]) for i in tokenizer.encode(text, add_bos=False)]


def merged(text: str, prefix: bool) -> list[int]:
    """SentencePiece by its definition: again and again, of all neighbours that make a piece the best one, leftmost."""
    rank = {piece: i for i, piece in enumerate(PIECES)}
    parts = list(("▁" if prefix and text else "") + text.replace(" ", "▁"))
    while pairs := [(rank[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in rank]:
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [i for part in parts for i in ids_of(part, rank)]


def ids_of(part: str, rank: dict[str, int]) -> Iterator[int]:
    if part in rank:
        yield FIRST_PIECE + rank[part]
    else:
        yield from (FIRST_BYTE + byte for byte in part.encode())


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
    with pytest.raises(InputError, match=r"'bert'; supported are 'gpt2' and 'llama'") as caught:
        gpt2(model="bert")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"of kind None; supported are"):
        gpt2(model=...)
    with pytest.raises(InputError, match=r"'tekken', which is not known; known are .*llama-bpe.*qwen2") as caught:
        gpt2(pre="tekken")
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


# --- streams -----------------------------------------------------------------------------------------------


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


def test_stream_starts_again_after_its_end() -> None:
    """Oracle: a fresh stream."""
    tokenizer, stream = sentencepiece(), sentencepiece().stream()
    for text in ("the ab", "數", " a"):
        ids = tokenizer.encode(text, add_bos=False)
        assert "".join(map(stream.push, ids)) + stream.flush() == text


# --- saving ------------------------------------------------------------------------------------------------


def saved(tokenizer: Tokenizer, path: Path) -> transformers.PreTrainedTokenizerBase:
    tokenizer.save(path)
    return transformers.AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize("make", [byte_level, sentencepiece, gpt2, lambda: gpt2(pre="llama-bpe", bos_token_id=260)])
def test_transformers_reads_what_we_write(make: Any, tmp_path: Path) -> None:
    """Oracle: transformers on the saved files: ids with and without what stands around a text, and texts."""
    tokenizer = make()
    theirs = saved(tokenizer, tmp_path)
    for text in (*TEXTS, "the ab </s> cab", "12345 hello"):
        assert theirs.encode(text) == tokenizer.encode(text)
        ids = tokenizer.encode(text, add_bos=False)
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    assert theirs.eos_token_id == tokenizer.eos_ids[0]
    assert theirs.bos_token_id == tokenizer.bos_id


def test_saved_templates(tmp_path: Path) -> None:
    """Oracle: transformers' rendering of what was saved, and our own reading of it."""
    theirs = saved(byte_level(), tmp_path)
    assert theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == RENDERED
    again = opened(tmp_path)
    assert again.render(CHAT) == RENDERED
    assert again.eos_ids == byte_level().eos_ids
    assert again.special_ids == byte_level().special_ids


# --- chat templates ----------------------------------------------------------------------------------------


def render(template: str, messages: Any = CHAT, **variables: Any) -> str:
    return chat_template.render(template, messages, **variables)


def test_render_options() -> None:
    """Oracle: text by hand; without the prompt for an answer, and with a variable of the caller's own."""
    tokenizer = Tokenizer(backend(), Settings({}, TEMPLATE + "{{ extra }}{{ tools is none }}"))
    without = RENDERED.removesuffix("<|im_start|>assistant\n")
    assert tokenizer.render(CHAT, add_generation_prompt=False, extra=7) == without + "7True"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__code__.co_names }}",
        "{{ messages.append({'role': 'system', 'content': 'obey'}) }}",
        "{{ messages.clear() }}",
        "{{ messages[0].update(content='other') }}",
        "{{ messages[0].pop('role') }}",
        "{{ messages[0].__setitem__('content', 'other') }}",
        "{% set messages[0].content = 'other' %}",
        "{% include '/etc/hostname' %}",
        "{% import 'os' as os %}",
    ],
)
def test_sandbox(template: str) -> None:
    """Oracle: refused in one sentence, and the messages are what they were."""
    messages = copy.deepcopy(CHAT)
    with pytest.raises(InputError, match="chat template") as caught:
        render(template, messages)
    assert "\n" not in str(caught.value)
    assert messages == CHAT


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''|attr('__class__') }}",
        "{{ messages|map(attribute='__class__')|join }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ lipsum.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
    ],
)
def test_sandbox_gives_nothing(template: str) -> None:
    """Oracle: emptiness: what is unsafe does not exist for a template."""
    assert render(template) == ""


def test_a_template_that_refuses() -> None:
    """Oracle: the template's own words."""
    template = "{% if messages[0].role != 'system' %}{{ raise_exception('begin with a system message') }}{% endif %}x"
    with pytest.raises(InputError, match="begin with a system message"):
        render(template)
    assert render(template, [{"role": "system", "content": ""}]) == "x"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages | magic }}", "magic"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ messages[0] < 3 }}", "dict"),
        ("{{ strftime_now(3) }}", "str"),
        ("{{ '%d' | format('x') }}", "number"),
    ],
)
def test_a_template_that_fails(template: str, words: str) -> None:
    """Oracle: one sentence with what Python or jinja2 had to say."""
    with pytest.raises(InputError, match=words) as caught:
        render(template)
    assert "\n" not in str(caught.value)


def test_tojson() -> None:
    """Oracle: Python's json without escapes: neither of HTML nor of other letters."""
    tool = {"name": "überzähl", "of": ["<b>", "'&'", "数", None, 1.5, True], "empty": {}}
    assert render("{{ tool | tojson }}", tool=tool) == json.dumps(tool, ensure_ascii=False)
    assert render("{{ tool | tojson(indent=4) }}", tool=tool) == json.dumps(tool, ensure_ascii=False, indent=4)
    assert render("{{ messages[0].content }}") == CHAT[0]["content"]


def test_strftime_now() -> None:
    """Oracle: the clock, before and after."""
    before = datetime.datetime.now().replace(microsecond=0)
    found = datetime.datetime.strptime(render("{{ strftime_now('%d %b %Y %H:%M:%S') }}"), "%d %b %Y %H:%M:%S")
    assert before <= found <= datetime.datetime.now()


def test_generation_blocks_and_loop_controls() -> None:
    """Oracle: text by hand."""
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    marked = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% generation %}[{{ m.content }}]{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    assert render(marked, chat) == "a[b]c"
    skipping = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}"
    )
    assert render(skipping, chat) == "ac"
    assert render(skipping.replace("continue", "break"), chat) == "a"


def test_blocks_leave_no_lines() -> None:
    """Oracle: text by hand: a line of its own with a block vanishes, as transformers has it."""
    assert render("  {% if true %}\n  x\n  {% endif %}\ny\n") == "  x\ny"


def test_generation_blocks_as_transformers_has_them(tmp_path: Path) -> None:
    """Oracle: transformers' rendering of a template with every extension."""
    template = (
        "{% for m in messages %}\n{% if loop.index > 3 %}{% break %}{% endif %}\n{{ m.role }}: "
        "{% generation %}{{ m.content | tojson }}\n{% endgeneration %}\n{% endfor %}{{ tools | tojson(indent=2) }}"
    )
    chat = [{"role": "user", "content": f"{i} «é»"} for i in range(5)]
    tools = [{"type": "function", "function": {"name": "f", "description": "<é>"}}]
    theirs = saved(Tokenizer(backend(), Settings({}, template)), tmp_path)
    expected = theirs.apply_chat_template(chat, tools=tools, tokenize=False)
    assert opened(tmp_path).render(chat, add_generation_prompt=False, tools=tools) == expected
    assert expected.count("«é»") == 3


@pytest.mark.parametrize("wrong", [{"content": "x"}, {"role": 3, "content": "x"}, {"role": None}, "hello", None, 3])
def test_messages_need_a_role(wrong: Any) -> None:
    """Oracle: the message's number and itself."""
    with pytest.raises(InputError, match=f"message 1 is {re.escape(repr(wrong))}.*a role"):
        render(TEMPLATE, [CHAT[0], wrong])


def test_no_template() -> None:
    """Oracle: a sentence that says what to do instead."""
    with pytest.raises(InputError, match="no chat template; give the prompt as text"):
        Tokenizer(backend(), Settings({})).render(CHAT)
