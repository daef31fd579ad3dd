"""Conversations as training files have them: weights, calls, parts, and the kind told by the first record."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from braidlm.api.loading import read_tokenizer
from braidlm.errors import InputError
from braidlm.text.tokenizer import Settings, Tokenizer
from braidlm.train.data.build import build
from braidlm.train.data.chat import encode_chat
from braidlm.train.data.documents import Piece
from braidlm.train.data.messages import template_messages
from braidlm.train.data.recipe import Recipe
from braidlm.train.data.recognise import recognise
from tests.cli.commands import entry
from tests.text.made import backend
from tests.train.data.chatml import CHATML, shown, tokenizer
from tests.train.data.made import json_lines

CHATS = Path(__file__).parent / "chats"
TURN = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
# What is learned of each file stands between [[ and ]].
EXPECTED = {
    "messages": f"{TURN}[[Hello!<|im_end|>]]\n",
    "parts": f"{TURN}[[Hello!<|im_end|>]]\n",
    "weight": f"{TURN}A<|im_end|>\n{TURN}[[B<|im_end|>]]\n",
}
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"


@pytest.mark.parametrize("name", EXPECTED)
def test_files_of_openai_s_form(name: str, tmp_path: Path) -> None:
    """Oracle: the marked text by hand; the file is recognised, and read with a published model's template."""
    source = CHATS / f"{name}.jsonl"
    found = read_tokenizer("smollm2-135m")
    shards = build(tmp_path / "out", [source], found, Recipe(kind=recognise([source])))
    pack = shards.training.pack([Piece(0, 0, int(shards.training.lengths_N[0]))], False)
    ids = pack.ids_T.tolist()
    # A token's target is the one after it, where that is learned.
    learned = [False, *(np.asarray(pack.targets_T)[:-1] >= 0)]
    assert shown(found, ids, learned) == SYSTEM + EXPECTED[name]


CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}"
    "{{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_null_contents_with_calls() -> None:
    """Oracle: the marked text by hand: a call is learned, its arguments an object and not a text in quotes."""
    record = json.loads((CHATS / "msgnull.jsonl").read_text())
    record["messages"][1]["tool_calls"][0]["function"]["arguments"] = '{"city": "Paris"}'
    found = tokenizer(CALLS)
    ids, trained = encode_chat(found, record["messages"], None, found.eos_ids[0])
    assert shown(found, ids, trained) == (
        f'{TURN}[[f {{"city": "Paris"}}<|im_end|>]]\n<|im_start|>tool\nx<|im_end|>\n'
        "<|im_start|>assistant\n[[Done<|im_end|>]]\n"
    )


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([None, 1], ["[[A<|im_end|>]]", "[[B<|im_end|>]]"]),
        ([0, 1.0], ["A<|im_end|>", "[[B<|im_end|>]]"]),
        ([1, 0], ["[[A<|im_end|>]]", "B<|im_end|>"]),
        ([True, False], ["[[A<|im_end|>]]", "B<|im_end|>"]),
    ],
)
def test_weights(weights: list[Any], expected: list[str]) -> None:
    """Oracle: the marked text by hand; the weight itself is nothing that a template sees."""
    messages = [m for text in "AB" for m in ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": text})]
    for message, weight in zip(messages[1::2], weights):
        message["weight"] = weight
    found = tokenizer(CHATML.replace("{{ message.content }}", "{{ message.content }}{{ message.weight }}"))
    ids, trained = encode_chat(found, messages, None, found.eos_ids[0])
    text = shown(found, ids, trained)
    assert text.endswith(f"{TURN}{expected[0]}\n{TURN}{expected[1]}\n")


def test_the_last_answer_without_weight_gets_its_end_all_the_same() -> None:
    """Oracle: by hand: the end that is appended is learned where the answer is, and only there."""
    plain = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    found = tokenizer(plain)
    messages = [m for text in "AB" for m in ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": text})]
    messages[3]["weight"] = 0
    ids, trained = encode_chat(found, messages, None, found.eos_ids[0])
    assert ids[-1] == found.eos_ids[0] and not trained[-1]
    assert any(trained)


def test_share_gpt(tmp_path: Path) -> None:
    """Oracle: the ids of the same conversation in OpenAI's form."""
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]
    openai = [{"role": role, "content": turn["value"]} for role, turn in zip(("system", "user", "assistant"), turns)]
    assert template_messages(turns) == template_messages(openai)
    source = json_lines(tmp_path / "a.jsonl", [{"conversations": turns, "id": 3}])
    assert recognise([source]) == "chat"
    found = read_tokenizer("smollm2-135m")
    shards = build(tmp_path / "out", [source], found, Recipe(kind="chat"))
    ids, _ = encode_chat(found, openai, None, found.eos_ids[0])
    assert int(shards.training.lengths_N[0]) == len(ids)


def test_an_older_call() -> None:
    """Oracle: by hand: `function_call` is one call."""
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
    ]
    found, learned = template_messages(messages)
    assert found[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
    }
    assert learned == [False, True]
    assert messages[1]["content"] is None  # what was given is as it was


USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({**ANSWER, "weight": 0}, "every answer has the weight 0"),
        ({**ANSWER, "weight": 2}, "message 2 with the weight 2, but it must be 0 or 1"),
        ({**ANSWER, "weight": "1"}, "message 2 with the weight '1'"),
        ({**ANSWER, "content": 3}, "message 2 with the content 3"),
        ({**ANSWER, "content": None}, "message 2 of the assistant without a content"),
        ({**ANSWER, "content": [{"type": "image_url", "image_url": {}}]}, "images and sound are not read"),
        ({**ANSWER, "content": ["a"]}, "message 2 with a part 'a'"),
        ({**ANSWER, "tool_calls": [{"function": {}}]}, "tool call that has no function with a name"),
        ({**ANSWER, "tool_calls": "f()"}, "tool call that has no function with a name"),
        ({**ANSWER, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "arguments are no valid JSON"),
        ({"from": "nobody", "value": "x"}, "message 2 with the role 'nobody'"),
        ({"from": 3, "value": "x"}, "message 2 with the role None"),
    ],
)
def test_bad_messages(message: Any, sentence: str) -> None:
    """Oracle: sentences by hand."""
    with pytest.raises(InputError, match=sentence):
        template_messages([USER, message])


def test_kinds(tmp_path: Path) -> None:
    """Oracle: by hand: the kind that a person would name."""
    chat, text = {"messages": [USER, ANSWER]}, {"text": "x"}
    cases = {
        "chat": [chat], "jsonl": [text], "second": [{"prompt": "x"}], "both": [{**chat, **text}], "broken": [3],
    }  # fmt: skip
    files = {name: json_lines(tmp_path / f"{name}.jsonl", rows) for name, rows in cases.items()}
    assert recognise([files["chat"]]) == "chat"
    assert recognise([str(tmp_path / "ch*.jsonl")]) == "chat"
    assert recognise([files["jsonl"], files["chat"]]) == "jsonl"  # the first file says it
    assert recognise([files["second"]], "prompt") == "jsonl"
    assert recognise([files["both"]], "text") == "jsonl"
    assert recognise([files["both"]], "messages") == "chat"
    assert recognise([files["broken"]]) == "jsonl"  # reading it says what is wrong
    for name in ("second", "both"):
        with pytest.raises(InputError, match=r"say --kind chat, or --kind jsonl with --field"):
            recognise([files[name]])
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.txt").write_text("x")
    (tmp_path / "plain" / ".hidden.jsonl").write_text("x")
    assert recognise([tmp_path / "plain"]) == "text"
    assert recognise(["owner/name"]) == "text"
    with pytest.raises(InputError, match=r"files of several kinds .*name one with --kind"):
        recognise([tmp_path / "plain", files["chat"]])
    (tmp_path / "a.json").write_text(json.dumps([chat]))
    with pytest.raises(InputError, match=r"is one JSON file; give a line to each document"):
        recognise([tmp_path / "a.json"])


def test_kinds_of_parquet(tmp_path: Path) -> None:
    """Oracle: by hand: the columns say it."""
    for name, columns, kind in (
        ("a", {"text": ["x"]}, "parquet"),
        ("b", {"messages": [[USER, ANSWER]]}, "chat"),
        ("c", {"body": ["x"]}, None),
    ):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
        if kind is None:
            with pytest.raises(InputError, match="fields: body"):
                recognise([tmp_path / f"{name}.parquet"])
        else:
            assert recognise([tmp_path / f"{name}.parquet"]) == kind


def test_the_command_tells_the_kind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: documents and sentences by hand."""
    asked = ("--tokenizer", "smollm2-135m")
    done = entry(capfd, "data", str(tmp_path / "out"), str(CHATS / "weight.jsonl"), *asked, "--json")
    assert json.loads(done.stdout)["training"]["documents"] == 1
    both = json_lines(tmp_path / "a.jsonl", [{"text": "x", "messages": []}])
    done = entry(capfd, "data", str(tmp_path / "other"), str(both), *asked)
    assert done.returncode == 2 and "say --kind chat, or --kind jsonl" in done.stderr and done.stderr.count("\n") == 1


def test_templates_of_tools_are_taken() -> None:
    """Oracle: by hand: a conversation with tools is rendered by the template for tools."""
    found = Tokenizer(backend(), Settings({"eos_token": "<|im_end|>"}, CHATML, (), {"tool_use": "T" + CHATML}))
    ids, _ = encode_chat(found, [USER, ANSWER], [{"name": "f"}], 2)
    without, _ = encode_chat(found, [USER, ANSWER], None, 2)
    assert found.decode(ids) == f"T{found.decode(without)}"
