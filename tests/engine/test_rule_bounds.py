"""Rules that would end the process, or take for ever: bounded, and compiled where a crash costs nothing."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from braidlm.engine import Engine, Grammar, Limits, Request
from braidlm.engine.grammar import Rules
from braidlm.engine.rule_bounds import check_repeats, check_rule
from braidlm.engine.rule_process import RuleProcess
from braidlm.errors import BusyError, InputError, UnavailableError
from braidlm.generation.sampling import Sampling
from tests.server.local import model, serving, until


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with model().engine() as running:
        yield running


def chain(count: int, link: Callable[[str], dict[str, Any]] = lambda place: {"$ref": place}) -> dict[str, Any]:
    """A schema of so many definitions, each of which names the next."""
    named = {f"d{i}": link(f"#/$defs/d{i + 1}") for i in range(count)}
    return {"$defs": {**named, f"d{count}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


def within(place: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": {"$ref": place}}, "required": ["x"]}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def schema(written: dict[str, Any]) -> Grammar:
    return Grammar.of_schema(written)


REFUSED = {
    "a chain of references": (schema(chain(3000)), "3001 definitions"),
    "a chain of objects": (schema(chain(990, within)), "a chain of more than 100 references"),
    "a chain in another order": (
        schema({"$ref": "#/$defs/d0", "$defs": dict(reversed(chain(150)["$defs"].items()))}),
        "a chain of more",
    ),
    "a deep schema": (schema(nested(600)), "nested more than 100 deep"),
    "a schema too deep for Python": (
        Grammar("json_schema", '{"items":' * 9000 + "{}" + "}" * 9000),
        "nested more than",
    ),
    "a large schema": (schema({"enum": ["x" * 300_000]}), "more than 256 KiB"),
    "no schema": (Grammar("json_schema", "{"), "no valid JSON"),
    "a pattern of repeats": (schema({"type": "string", "pattern": "(a{2000}){2000}"}), "more than 1000000 times"),
    "repeats in repeats": (Grammar("regex", "((a{200}){200}){200}"), "more than 1000000 times"),
    "a repeat of many digits": (Grammar("regex", "a{" + "9" * 5000 + "}"), "more than 1000000 times"),
    "deep brackets": (Grammar("regex", "(" * 5000 + "a" + ")" * 5000), "nested more than 100 deep"),
    "rules that name rules": (
        Grammar("lark", "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(9000)) + '\nr9000: "a"'),
        "too much memory or too deep a recursion",
    ),
    "terminals that name terminals": (
        Grammar("lark", "start: R0\n" + "\n".join(f"R{i}: R{i + 1}" for i in range(12_000)) + '\nR12000: "a"'),
        "too much memory or too deep a recursion",
    ),
}


@pytest.mark.parametrize(("rule", "reason"), REFUSED.values(), ids=REFUSED)
def test_rules_beyond_the_bounds(engine: Engine, rule: Grammar, reason: str) -> None:
    """Oracle: the reason by hand, in one sentence; the same engine then follows another rule."""
    request = Request(ids=(1, 2), sampling=Sampling(max_tokens=4), grammar=rule)
    for _ in range(2):  # the second time from memory
        with pytest.raises(InputError, match=reason) as caught:
            engine.submit(request)
    assert "\n" not in str(caught.value)
    good = Request(ids=(1, 2), sampling=Sampling(max_tokens=4), grammar=Grammar("regex", "ab|cd"))
    assert "".join(token.text for _, token in engine.submit(good)) in ("ab", "cd")


TREE = {
    "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "n": {"type": "integer"}}}},
    "$ref": "#/$defs/tree",
}
KEPT = {
    "a chain that is short": schema(chain(99, within)),
    "a deep schema within the bound": schema(nested(49)),
    "a tree": schema(TREE),
    "a thousand choices": schema({"enum": [f"value number {i}" for i in range(1000)]}),
    "many properties": schema({"properties": {f"p{i}": {"type": "string"} for i in range(300)}}),
    "a long text": schema({"type": "string", "maxLength": 100_000_000}),
    "repeats one after the other": Grammar("regex", "[0-9]{1,999}" * 9 + "x{90000}"),
    "braces that are no repeats": Grammar("regex", r"\{9999999\}[{5000000}]+"),
}


@pytest.mark.parametrize("rule", KEPT.values(), ids=KEPT)
def test_rules_within_the_bounds(engine: Engine, rule: Grammar) -> None:
    """Oracle: rules that people write are followed as before: the text ends or is cut, without an error."""
    request = Request(ids=(1, 2), sampling=Sampling(max_tokens=8), grammar=rule)
    tokens = [token for _, token in engine.submit(request)]
    assert tokens[-1].finish in ("stop", "length")


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("(a{1000}){1000}", True),
        ("(a{1001}){1000}", False),
        ("(a{9}b{999}){999}c{9}", True),
        (r"(\(a{2000}){2000}", False),
        ("((a{2000})){2000}", False),
        ("a{2000}(b{2000})", True),
    ],
)
def test_products_of_repeats(text: str, fits: bool) -> None:
    """Oracle: products by hand, against a million."""
    try:
        check_repeats(text, "regex")
        found = True
    except InputError:
        found = False
    assert found is fits


def process() -> RuleProcess:
    tokenizer = model().tokenizer
    assert tokenizer is not None
    return RuleProcess(tokenizer.to_json, tokenizer.vocab_size, tokenizer.eos_ids)


def test_the_process_is_kept_and_started_anew() -> None:
    """Oracle: process ids: one process for all rules, another one after its death."""
    rules = process()
    assert rules.reason_against("regex", "a+", {}) == ""
    first = rules._process
    assert first is not None
    assert "invalid regex" in rules.reason_against("regex", "(", {})
    assert rules._process is first
    first.kill()
    first.wait()
    assert rules.reason_against("regex", "b+", {}) == ""
    assert rules._process is not None and rules._process.pid != first.pid


def test_a_rule_that_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a process that is stopped gives no answer; it is ended, and the next rule is compiled by another one."""
    rules = process()
    assert rules.reason_against("regex", "begin", {}) == ""
    stopped = rules._process
    assert stopped is not None
    stopped.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
    with monkeypatch.context() as patched:
        patched.setattr("braidlm.engine.rule_process._COMPILE_S", 0.1)
        assert "takes more than 0.1 seconds" in rules.reason_against("regex", "a", {})
    assert stopped.returncode == -signal.SIGKILL
    assert rules.reason_against("regex", "b+", {}) == ""


def test_too_many_rules_at_once() -> None:
    """Oracle: one is compiled and 16 wait, all in turn; the next is refused, and once they are done it is not."""
    rules = process()
    assert rules.reason_against("regex", "begin", {}) == ""
    many = 17
    answers: list[str] = []
    with rules._lock:
        threads = [
            threading.Thread(target=lambda i=i: answers.append(rules.reason_against("regex", f"a{i}", {})))
            for i in range(many)
        ]
        for thread in threads:
            thread.start()
        while rules._seats.acquire(blocking=False):
            rules._seats.release()
        with pytest.raises(BusyError, match="too many rules wait"):
            rules.reason_against("regex", "x", {})
    for thread in threads:
        thread.join()
    assert answers == [""] * many
    assert rules.reason_against("regex", "x", {}) == ""


def test_a_rule_that_waits_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: who waits longer than is waited is refused and gives its place back; then all is as before."""
    monkeypatch.setattr("braidlm.engine.rule_process._WAIT_S", 0.01)
    rules = process()
    assert rules.reason_against("regex", "begin", {}) == ""
    with rules._lock:
        for _ in range(50):
            with pytest.raises(BusyError, match="other rules take long"):
                rules.reason_against("regex", "x", {})
    assert rules.reason_against("regex", "x", {}) == ""


def test_a_team_that_begins_at_once() -> None:
    """Oracle: 16 new schemas at the same moment: none is refused, and each answer follows its own."""
    with serving(model(), limits=Limits(parallel=16)) as server:

        def one(number: int) -> httpx2.Response:
            rule = {"type": "regex", "regex": f"answer {number}"}
            body = {"messages": [{"role": "user", "content": "hi"}], "response_format": rule, "max_tokens": 40}
            return server.post("/v1/chat/completions", body)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(one, range(16)))
        assert [answer.status_code for answer in answers] == [200] * 16
        said = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
        assert said == [f"answer {number}" for number in range(16)]


def test_a_server_prepares_its_compiler() -> None:
    """Oracle: the compiler's process runs before any rule was asked for, and is the one that compiles the first."""
    with serving(model()) as server:
        rules = server.host.served.engine._compile_grammar
        assert isinstance(rules, Rules)
        until(lambda: rules._process._process is not None)
        prepared = rules._process._process
        rules(Grammar("regex", "a"))
        assert rules._process._process is prepared


def test_a_server_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: it serves; who asks for a rule is told what is missing."""

    def missing() -> None:
        raise UnavailableError("rules for the text need llguidance")

    monkeypatch.setattr("braidlm.engine.grammar._llguidance", missing)
    with serving(model()) as server:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        assert server.post("/v1/chat/completions", body).status_code == 200
        refused = server.post("/v1/chat/completions", body | {"response_format": {"type": "json_object"}})
        assert refused.status_code == 501
        assert "need llguidance" in refused.json()["error"]["message"]


def test_one_rule_for_many_at_once() -> None:
    """Oracle: a rule that sixteen ask for takes one place of seventeen, and all of them get it; it is compiled once."""
    tokenizer = model().tokenizer
    assert tokenizer is not None
    rules = Rules(tokenizer.to_json, tokenizer.vocab_size, tokenizer.eos_ids)
    rules(Grammar("regex", "begin"))
    matchers: list[object] = []
    with rules._process._lock:
        threads = [threading.Thread(target=lambda: matchers.append(rules(Grammar("regex", "ab+")))) for _ in range(16)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert len(matchers) == 16
    assert len(set(map(id, matchers))) == 1


def test_schemas_inside_schemas_are_seen() -> None:
    """Oracle: by hand: a chain in a part that only a reference of another file's kind could reach is not followed."""
    check_rule("json_schema", json.dumps({"$ref": "https://elsewhere/x.json#/a/b"}), "schema")
    check_rule("json_schema", json.dumps({"properties": {"$ref": {"type": "string"}}}), "schema")
    with pytest.raises(InputError, match="1001 definitions"):
        check_rule("json_schema", json.dumps({"items": {"definitions": {str(i): {} for i in range(1001)}}}), "schema")


def test_a_compiler_is_prepared_once() -> None:
    """Oracle: the process that was prepared compiles the first rule."""
    tokenizer = model().tokenizer
    assert tokenizer is not None
    rules = Rules(tokenizer.to_json, tokenizer.vocab_size, tokenizer.eos_ids)
    rules.prepare()
    until(lambda: rules._process._process is not None)
    prepared = rules._process._process
    rules(Grammar("regex", "a"))
    assert rules._process._process is prepared
