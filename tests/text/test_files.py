"""Tokenizers in directories: every place where a checkpoint may keep a part, and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from braidlm.errors import CheckpointError, InputError
from braidlm.text.tokenizer import Tokenizer
from tests.text.made import (
    CHAT,
    RENDERED,
    TEMPLATE,
    TEXTS,
    backend,
    byte_level,
    directory,
    gpt2,
    opened,
    saved,
    sentencepiece,
)


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
    found = opened(directory(tmp_path, {"bos_token": "<nowhere>", "eos_token": None}))
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


def test_chat_template_json(tmp_path: Path) -> None:
    """Oracle: the rendered text by hand; the file counts where nothing else has a template."""
    place = directory(tmp_path, {}, chat_template={"chat_template": TEMPLATE})
    assert opened(place).render(CHAT) == RENDERED
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "other"}))
    assert opened(place).render(CHAT) == "other"


NAMED = [
    {"name": "rag", "template": "rag {{ documents }}"},
    {"name": "tool_use", "template": "{{ tools[0].name }} {{ messages[0].content }}"},
    {"name": "default", "template": TEMPLATE},
]


@pytest.mark.parametrize("place", ["list", "files"])
def test_a_template_for_tools(place: str, tmp_path: Path) -> None:
    """Oracle: transformers on the same files, with tools, without, and with none; and texts by hand."""
    directory(tmp_path, {"chat_template": NAMED} if place == "list" else {"chat_template": "no"})
    if place == "files":
        (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
        (tmp_path / "additional_chat_templates").mkdir()
        for item in NAMED[:2]:
            (tmp_path / "additional_chat_templates" / f"{item['name']}.jinja").write_text(item["template"])
    found = opened(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tools = [{"name": "eye"}]
    for given in (tools, None):
        expected = reference.apply_chat_template(CHAT, tools=given, tokenize=False, add_generation_prompt=True)
        assert found.render(CHAT, tools=given) == expected
    assert found.render(CHAT, tools=tools) == "eye Hé <b> & 'you'"
    assert found.render(CHAT, tools=[]) == RENDERED
    assert found.template_variables >= {"tools", "messages", "add_generation_prompt"}
    assert (found.chat_template, found.tool_template) == (TEMPLATE, NAMED[1]["template"])


def test_named_templates_are_saved(tmp_path: Path) -> None:
    """Oracle: transformers and our own reading of what was saved: every template by its name."""
    found = opened(directory(tmp_path, {"chat_template": NAMED}))
    (tmp_path / "out").mkdir()
    reference = saved(found, tmp_path / "out")
    assert reference.chat_template == {item["name"]: item["template"] for item in NAMED}
    again = opened(tmp_path / "out")
    assert (again.chat_template, again.tool_template) == (found.chat_template, found.tool_template)


def test_one_template_is_for_tools_too(tmp_path: Path) -> None:
    """Oracle: by hand: without a template of its own, a chat with tools takes the default."""
    found = opened(directory(tmp_path, {"chat_template": "{{ tools is none }}"}))
    assert found.tool_template == found.chat_template
    assert found.render(CHAT, tools=[{"name": "eye"}]) == "False"
    assert opened(directory(tmp_path, {})).tool_template is None


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/tool_use.jinja"])
def test_damaged_templates(name: str, tmp_path: Path) -> None:
    """Oracle: the file is named, whether it is no text or no file."""
    directory(tmp_path)
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / name).write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=f"{name} is no readable text"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=f"{name} is no readable text"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("found", [5, True, {"default": "x"}])
@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.json"])
def test_templates_of_another_kind(place: str, found: Any, tmp_path: Path) -> None:
    """Oracle: the sentence: a model never loses its template silently; an empty one is none."""
    directory(tmp_path)
    (tmp_path / place).write_text(json.dumps({"chat_template": found}))
    with pytest.raises(CheckpointError, match="but it must be a text or a list of them"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / place).write_text('{"chat_template": ""}')
    assert opened(tmp_path).chat_template is None


def test_no_tokenizer(tmp_path: Path) -> None:
    """Oracle: nothing where there is nothing, and a sentence where there is only a format that is not read."""
    assert Tokenizer.from_directory(tmp_path) is None
    for name in ("vocab.txt", "spiece.model", "vocab.json", "merges.txt", "rwkv_vocab_v20230424.txt"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=rf"has a tokenizer in {name}, which is not read; a tokenizer\.json"):
            Tokenizer.from_directory(tmp_path)
        (tmp_path / name).unlink()


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
    for content in (b"", b"{", b"\xff\xfe\x00", None):
        if content is None:
            (tmp_path / f"{name}.json").unlink()
            (tmp_path / f"{name}.json").mkdir()
        else:
            (tmp_path / f"{name}.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name}\.json is no readable JSON") as caught:
            Tokenizer.from_directory(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [byte_level, sentencepiece, gpt2, lambda: gpt2(pre="llama-bpe", bos_token_id=260)])
def test_transformers_reads_what_we_write(make: Any, tmp_path: Path) -> None:
    """Oracle: transformers on the saved files: ids with and without what stands around a text, and texts."""
    tokenizer = make()
    reference = saved(tokenizer, tmp_path)
    for text in (*TEXTS, "the ab </s> cab", "12345 hello"):
        assert reference.encode(text) == tokenizer.encode(text)
        ids = tokenizer.encode(text, add_bos=False)
        assert reference.encode(text, add_special_tokens=False) == ids
        assert reference.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    assert reference.eos_token_id == tokenizer.eos_ids[0]
    assert reference.bos_token_id == tokenizer.bos_id


def test_saved_templates(tmp_path: Path) -> None:
    """Oracle: transformers' rendering of what was saved, and our own reading of it."""
    reference = saved(byte_level(), tmp_path)
    assert reference.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == RENDERED
    again = opened(tmp_path)
    assert again.render(CHAT) == RENDERED
    assert again.eos_ids == byte_level().eos_ids
    assert again.special_ids == byte_level().special_ids
