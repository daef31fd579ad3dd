"""Chat templates that take too much time, memory or depth, and that long conversations are none of these."""

import json
from typing import Any

import pytest

from braidlm.errors import InputError
from braidlm.text import chat_template
from tests.text.made import CHAT

STEPS, SIZE, DIGITS = "takes too many steps", "text or list of more than", "thousands of digits"
WIDTH, NUMBER = "width above", "above 1000"
DEEP = (
    "{% set n = namespace(x='a', y='a') %}{% for i in range(60) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
)
PAIRS = DEEP.replace("[", "(").replace("]", ")")
LONG = "{% set x = 'a' * 4000000 %}{% for i in range(99999) %}"

REFUSED = [
    ("{{ 'a' * 10**9 }}", SIZE),
    ("{{ [0] * 10**9 }}", SIZE),
    ("{{ '%0999999999d' % 1 }}", WIDTH),
    ("{{ '%*d' % (999999999, 1) }}", WIDTH),
    ("{{ '%.999999999f' | format(1) }}", WIDTH),
    ("{{ '{:999999999}'.format(1) }}", WIDTH),
    ("{{ '{:{}}'.format(1, 999999999) }}", WIDTH),
    ("{{ '{a:999999999}'.format_map({'a': 1}) }}", WIDTH),
    ("{{ ('{0}' * 100000).format('a' * 4000000) }}", SIZE),
    ("{{ ('%(a)s' * 100000) % {'a': 'a' * 4000000} }}", SIZE),
    ("{% for a in range(99999) %}" * 3 + "{{ a }}" + "{% endfor %}" * 3, STEPS),
    ("{% for a in range(99999) recursive %}{{ loop(range(99999)) if loop.depth < 4 }}{% endfor %}", STEPS),
    ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}", STEPS),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ("{% block a %}{{ self.a() }}{% endblock %}", "recursion"),
    ("{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}", "parentheses within each other"),
    ("{{ " + "[" * 10_000, "parentheses within each other"),
    ("{{ " + "9" * 6000 + " }}", "more than 100 digits"),
    ("{{ " + "not " * 20_000 + "1 }}", "recursion"),
    ("{{ a" + ".b" * 10_000 + " }}", "recursion"),
    ("{% if a %}" * 3000 + "{% endif %}" * 3000, "recursion"),
    ("x" * 10**6, "more than 400000 characters"),
    ("{{ a }}" * 20_000, "more than 30000 words and signs"),
    ("{{ 2 ** 99999999999 }}", DIGITS),
    ("{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}", DIGITS),
    ("{{ ('f' * 4000000) | int(base=16) }}", DIGITS),
    ("{{ range(10**12) | list }}", "counts beyond"),
    ("{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}", SIZE),
    ("{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}", SIZE),
    ("{% set n = namespace(x=['a']) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}", SIZE),
    (
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
        "{% set n.x = y %}{% endfor %}",
        SIZE,
    ),
    *((DEEP + use, SIZE) for use in (
        "{{ n.x }}", "{{ n.x | tojson }}", "{{ n.x | string }}", "{{ n.x | join }}", "{{ n.x == n.y }}",
        "{{ n.x ~ '' }}",
        "{{ n.x == n.y == 3 }}", "{{ n.x in [n.y] }}", "{{ n.x is eq(n.y) }}", "{{ [n.x, n.y] | sort }}", "{{ n }}",
        "{{ '{}'.format(n.x) }}", "{{ '{!r}'.format(n.x) }}", "{{ '%s' % (n.x,) }}", "{{ [n.x].index(n.y) }}",
        "{{ raise_exception(n.x) }}", "{{ [{'a': n.x}] | selectattr('a', 'equalto', n.y) | list }}",
    )),
    (PAIRS + "{{ {}[n.x] }}", SIZE),
    ("{{ 'a' | center(10**9) }}", NUMBER),
    ("{{ 'a'.center(10**9) }}", SIZE),
    ("{{ 'a'.rjust(10**9) }}", SIZE),
    ("{{ 'a'.zfill(10**9) }}", SIZE),
    ("{{ ('\t' * 100000).expandtabs(10**6) }}", SIZE),
    ("{{ 'a' | indent(10**9) }}", NUMBER),
    ("{{ ('a\n' * 100000) | indent('x' * 100000) }}", SIZE),
    ("{{ ('a' * 100000).replace('a', 'b' * 100000) }}", SIZE),
    ("{{ ('a' * 100000) | replace(new='b' * 100000, old='a') }}", SIZE),
    ("{{ ('a' * 4000000).join(range(99999) | map('string')) }}", SIZE),
    ("{{ range(99999) | join('a' * 4000000) }}", SIZE),
    ("{{ ('a' * 100000).translate({97: 'b' * 100000}) }}", "calls translate"),
    ("{{ {}.fromkeys(range(9), 'a') }}", "calls fromkeys"),
    ("{{ (1).to_bytes(10**9, 'big') }}", "calls to_bytes"),
    ("{{ 'a' | batch(10**9, 'x') | list }}", NUMBER),
    ("{{ 'a' | slice(10**9) | list }}", NUMBER),
    ("{{ messages | tojson(indent=10**9) }}", "indents JSON"),
    ("{{ 5 | round(-10**9) }}", NUMBER),
    ("{{ ('a b' * 1000000) | wordwrap(1) }}", SIZE),
    ("{{ ([[0] * 100] * 2000) | sum(start=[]) }}", "no numbers"),
    ("{{ [1] | map(attribute='a.' * 2000000) | list }}", "name of more than"),
    ("{{ strftime_now('%0999999999d') }}", "time in a form with widths"),
    ("{{ strftime_now('%Y' * 1000000) }}", "time in a form with widths"),
    ("{% for i in range(99999) %}" + "A" * 100_000 + "{% endfor %}", SIZE),
    ("{% set x %}{% for i in range(99999) %}" + "A" * 100_000 + "{% endfor %}{% endset %}", SIZE),
    (LONG + "{% set y = x[:-1] %}{% endfor %}", STEPS),
    (LONG + "{% if 'b' in x %}{% endif %}{% endfor %}", STEPS),
    (LONG + "{% if x is lower %}{% endif %}{% endfor %}", STEPS),
    (LONG + "{% set y = x.upper() %}{% endfor %}", STEPS),
    (LONG + "{% set y = x | upper %}{% endfor %}", STEPS),
    ("{{ lipsum(n=10**9) }}", "'lipsum' is undefined"),
]  # fmt: skip


@pytest.mark.parametrize(("template", "words"), REFUSED, ids=[f"{i}: {t[:30]}" for i, (t, _) in enumerate(REFUSED)])
def test_refused(template: str, words: str) -> None:
    """Oracle: one sentence with the bound that was passed; without bounds these take hours or all memory."""
    with pytest.raises(InputError, match=words) as caught:
        chat_template.render(template, CHAT)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1200
    assert chat_template.variables(template) <= {"a", "messages", "lipsum", "raise_exception", "strftime_now"}


HARMLESS: list[tuple[str, str]] = [
    ("{{ ('ab' * 3) ~ (1 + 2) }}", "ababab3"),
    ("{{ '%05.1f|%-4s|%(a)s' % {'a': 1} if false else '%05.1f|%-4s' % (1.25, 'x') }}", "001.2|x   "),
    ("{{ '{:>4}|{!r}|{a}'.format(1, 'x', a=[1]) }}", "   1|'x'|[1]"),
    ("{{ 2 ** 10 - 7 // 2 * 3 % 5 }}", "1020"),
    ("{{ 1 < 2 < 3 }}{{ 1 < 2 > 3 }}{{ 'a' in 'abc' }}{{ 3 not in [1] }}{{ 'a' == 'a' }}", "TrueFalseTrueTrueTrue"),
    ("{{ 'a,b'.split(',') | join('-') }}{{ 'abc'[1:] }}{{ [1, 2, 3][::-1] }}", "a-bbc[3, 2, 1]"),
    ("{{ {'a': (1, 2)} | tojson }}{{ {(1, 2): 3}[(1, 2)] }}", '{"a": [1, 2]}3'),
    ("{% for k, v in {'a': 1} | items %}{{ k }}{{ v }}{% endfor %}{{ dict(a=1).a }}", "a11"),
    ("{% for i in [1, [2, [3]]] recursive %}{{ loop(i) if i is iterable else i }}{% endfor %}", "123"),
    ("{% for i in 'abc' if i != 'b' %}{{ loop.index }}{{ loop.length }}{{ loop.last }}{% endfor %}", "12False22True"),
    ("{% macro f(x) %}<{{ x }}{{ varargs }}>{% endmacro %}{{ f(1, 2) }}", "<1(2,)>"),
    ("{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}x{% endcall %}", "[x]"),
    ("{% set ns = namespace(n=0) %}{% for i in range(9) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "36"),
    ("{% set x %}a{{ 1 }}{% endset %}{{ x | upper }}{% filter lower %}ABC{% endfilter %}", "A1abc"),
    ("{{ messages | map(attribute='role') | list }}{{ [3, 1] | sort }}", "['user'][1, 3]"),
    ("{{ [1, 1] | unique | list }}", "[1]"),
    ("{{ [{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | map(attribute='a') | first }}", "2"),
    ("{{ none }}{{ nothing }}{{ 1.5 }}{{ true }}{{ 3.14159 | round(2) }}", "None1.5True3.14"),
    ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
    ("{{ raise_exception is defined }}{{ strftime_now('%Y') | length }}{{ 'a' | default('b') }}", "True4a"),
    ("{{ 'x' is in ['x'] }}{{ 3 is divisibleby 3 }}{{ 'a' is lower }}{{ 2 is ge 2 }}{{ [1] is eq [1] }}", "True" * 5),
    ("{% autoescape true %}{{ '<' ~ '>' }}{{ '<b>' }}{% endautoescape %}", "&lt;&gt;&lt;b&gt;"),
]  # fmt: skip


@pytest.mark.parametrize(("template", "text"), HARMLESS)
def test_what_is_bounded_works(template: str, text: str) -> None:
    """Oracle: texts by hand, of jinja2's documentation."""
    assert chat_template.render(template, CHAT) == text


SCANS = (
    "{% for m in messages %}{% set ns = namespace(later=0) %}{% for other in messages[loop.index0:] %}"
    "{% if other.role == 'user' and other.content is string %}{% set ns.later = ns.later + 1 %}{% endif %}{% endfor %}"
    "<|{{ m.role }}|>{{ m.content | trim }}{% if m.tool_calls %}{{ m.tool_calls | tojson(indent=2) }}{% endif %}"
    "{{ ns.later }}\n{% endfor %}"
)


def test_long_conversations() -> None:
    """Oracle: the text by hand: 400 messages by a template that looks at all later ones for each."""
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": [1, 2]}}}
    turns: list[dict[str, Any]] = [{"role": "user", "content": f" {i} é"} for i in range(200)]
    messages = [m for turn in turns for m in (turn, {"role": "assistant", "content": "x", "tool_calls": [call]})]
    expected = "".join(
        f"<|user|>{i} é{200 - i}\n<|assistant|>x{json.dumps([call], indent=2)}{199 - i}\n" for i in range(200)
    )
    assert chat_template.render(SCANS, messages) == expected


def test_long_messages() -> None:
    """Oracle: the text itself: what is large is the message, not the template's doing."""
    text = "word é " * 1_000_000
    template = (
        "{% for m in messages %}{{ m.content | trim }}"
        "{% if 'zz' in m.content %}{{ m.content.split('zz')[0] }}{% endif %}{% endfor %}"
    )
    assert chat_template.render(template, [{"role": "user", "content": text}]) == text.strip()
