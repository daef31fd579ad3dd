"""Chat templates: the sandbox, the helpers, and what is refused."""

import copy
import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest

from braidlm.errors import InputError
from braidlm.text import chat_template
from braidlm.text.tokenizer import Settings, Tokenizer
from tests.text.made import CHAT, RENDERED, TEMPLATE, backend, opened, saved


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
    reference = saved(Tokenizer(backend(), Settings({}, template)), tmp_path)
    expected = reference.apply_chat_template(chat, tools=tools, tokenize=False)
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
