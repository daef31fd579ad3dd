"""Conversations: which tokens are the assistant's."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.api.loading import read_tokenizer
from braidlm.errors import InputError
from braidlm.train.data.chat import encode_chat
from tests.text.made import forgeries, properties, saved
from tests.train.data.chatml import CHATML, shown, tokenizer

CHAT = [
    {"role": "user", "content": "The quick brown fox?"},
    {"role": "assistant", "content": "It jumps."},
    {"role": "user", "content": "Over whom?"},
    {"role": "assistant", "content": "The lazy dog.\nIt does not mind."},
]
# Templates in the manner of published models, and what they make of CHAT: [[ and ]] stand around what is trained on.
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
PHI = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>\n{{ m.content }}<|end|>\n<|assistant|>\n"
    "{% else %}{{ m.content }}<|end|>\n{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>"
    "\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FIRST, SECOND = "It jumps.", "The lazy dog.\nIt does not mind."
EXPECTED = {
    CHATML: "<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nThe quick brown fox?<|im_end|>\n<|im_start|>"
    f"assistant\n[[{FIRST}<|im_end|>]]\n<|im_start|>user\nOver whom?<|im_end|>\n<|im_start|>assistant\n[[{SECOND}"
    "<|im_end|>]]\n",
    ZEPHYR: f"<|user|>\nThe quick brown fox?</s>\n<|assistant|>\n[[{FIRST}</s>]]\n<|user|>\nOver whom?</s>\n"
    f"<|assistant|>\n[[{SECOND}</s>]]\n",
    PHI: f"<|user|>\nThe quick brown fox?<|end|>\n<|assistant|>\n[[{FIRST}<|end|>]]\n<|user|>\nOver whom?<|end|>\n"
    f"<|assistant|>\n[[{SECOND}<|end|>]]\n",
    MISTRAL: f"<s>[INST] The quick brown fox? [/INST][[ {FIRST}</s>]][INST] Over whom? [/INST][[ {SECOND}</s>]]",
    GEMMA: "<s><start_of_turn>user\nThe quick brown fox?<end_of_turn>\n<start_of_turn>model\n"
    f"[[{FIRST}<end_of_turn>]]\n<start_of_turn>user\nOver whom?<end_of_turn>\n<start_of_turn>model\n"
    f"[[{SECOND}<end_of_turn>]]\n",
    # No control token ends a turn, so the end of the text is added. Line ends are other tokens where a text follows.
    PLAIN: f"user: The quick brown fox?\n\nassistant:[[ {FIRST}]]\n\nuser: Over whom?\n\n"
    f"assistant:[[ {SECOND}\n\n</s>]]",
}


def encoded(template: str, messages: Any, **more: Any) -> tuple[list[int], list[bool]]:
    found = tokenizer(template)
    return encode_chat(found, messages, more.get("tools"), found.eos_ids[0])


@pytest.mark.parametrize("template", EXPECTED, ids=["chatml", "zephyr", "phi", "mistral", "gemma", "plain"])
def test_masks(template: str) -> None:
    """Oracle: the marked texts above, by hand; the ids are those of the whole text."""
    ids, trained = encoded(template, CHAT)
    assert shown(tokenizer(template), ids, trained) == EXPECTED[template]
    whole = tokenizer(template).encode(EXPECTED[template].replace("[[", "").replace("]]", ""), add_bos=False)
    assert ids == whole


def test_smollm2() -> None:
    """Oracle: by hand, with the template and vocabulary of the published model."""
    found = read_tokenizer("smollm2-135m")
    messages = [{"role": "system", "content": "Be kind."}, *CHAT]
    ids, trained = encode_chat(found, messages, None, found.eos_ids[0])
    assert shown(found, ids, trained) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nThe quick brown fox?<|im_end|>\n"
        f"<|im_start|>assistant\n[[{FIRST}<|im_end|>]]\n<|im_start|>user\nOver whom?<|im_end|>\n"
        f"<|im_start|>assistant\n[[{SECOND}<|im_end|>]]\n"
    )


MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
contents = st.text(st.sampled_from("The quick\n.é😀 "), min_size=1, max_size=20)
chats = st.lists(st.tuples(contents, contents), min_size=1, max_size=4).map(
    lambda turns: [{"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn)]
)


def test_as_transformers_masks(tmp_path: Path) -> None:
    """Oracle: transformers' masks of a template that says itself what the assistant wrote."""
    reference = saved(tokenizer(MARKED), tmp_path)

    @properties
    @given(chats)
    def check(messages: list[dict[str, str]]) -> None:
        ids, trained = encoded(MARKED, messages)
        expected = reference.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert ids == expected["input_ids"]
        assert [int(is_trained) for is_trained in trained] == expected["assistant_masks"]

    check()


@properties
@given(forgeries, forgeries)
def test_forged_control_tokens(question: str, answer: str) -> None:
    """Oracle: the control tokens of a harmless conversation: a message cannot add to them, nor end its turn early."""
    found = tokenizer(CHATML)
    control = found.special_ids
    harmless, _ = encoded(CHATML, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    ids, trained = encoded(CHATML, [{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    assert [i for i in ids if i in control] == [i for i in harmless if i in control]
    assert [i for i, own in zip(ids, trained) if own and i in control] == [found.id_of("<|im_end|>")]


def test_a_thought_that_only_the_last_answer_has() -> None:
    """Oracle: a sentence by hand: an earlier answer would be learnt as it is never given."""
    ids, trained = encoded(THINKS, CHAT[:2])
    assert shown(tokenizer(THINKS), ids, trained).endswith(f"assistant\n[[<think>\n\n</think>\n\n{FIRST}<|im_end|>]]\n")
    with pytest.raises(InputError, match=r"the chat template rewrites after message 2, .* cut it after that message"):
        encoded(THINKS, CHAT)


def test_tools() -> None:
    """Oracle: by hand: the template is given the tools, and a tool's answer is not trained on."""
    template = "{% if tools %}{{ tools[0].name }}<|im_end|>{% endif %}" + CHATML
    chat = [
        CHAT[0],
        {"role": "assistant", "content": "look"},
        {"role": "tool", "content": "seen"},
        {"role": "assistant", "content": "so"},
    ]
    ids, trained = encoded(template, chat, tools=[{"name": "eye"}])
    text = shown(tokenizer(template), ids, trained)
    assert text.startswith("eye<|im_end|>")
    assert "[[look<|im_end|>]]\n<|im_start|>tool\nseen<|im_end|>\n<|im_start|>assistant\n[[so<|im_end|>]]" in text


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "holds no messages"),
        ({"role": "user"}, "holds no messages"),
        ([*CHAT, {"role": "bot", "content": "x"}], "has message 5 with the role 'bot', but it must be one of system,"),
        ([*CHAT, "x"], "has message 5 with the role None"),
        ([*CHAT, {"role": "user"}], "has message 5 of the user without a content"),
        (CHAT[:1], "is a conversation without a message of the assistant's"),
    ],
)
def test_bad_conversations(messages: Any, sentence: str) -> None:
    """Oracle: sentences by hand."""
    with pytest.raises(InputError, match=sentence):
        encoded(CHATML, messages)


def test_what_templates_refuse() -> None:
    """Oracle: the template's own words; and a sentence by hand for one that renders no answers."""
    with pytest.raises(InputError, match="roles must alternate"):
        encoded(MISTRAL, [CHAT[0], *CHAT])
    with pytest.raises(InputError, match="leaves nothing of the assistant's"):
        encoded("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}</s>", CHAT)
