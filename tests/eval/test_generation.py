"""Generation with rules: every check on answers that keep it and that do not, and answers of real models."""

from itertools import islice
from pathlib import Path
from random import Random

import pytest

import braidlm
from braidlm.errors import InputError
from braidlm.eval import rules
from braidlm.eval.generation import CheckedAnswer, GenerationReport, Prompt, generation, prompts
from braidlm.eval.scores import wilson
from braidlm.eval.short_questions import short_questions
from tests.checkpoints.gguf_files import refused
from tests.quant.small import model_of

# Answers that keep a rule of each kind, whatever its numbers and words are, and answers that break it.
ANSWERS = {
    "at_most_words": (["One word.", "a b"], ["", "word " * 41]),
    "at_least_words": (["word " * 60], ["too short", ""]),
    "lower_case": (["all is small, 7."], ["Not", "7", ""]),
    "upper_case": (["LOUD, 7!"], ["Loud", "7", ""]),
    "json": (['{"name": 1}', '```json\n{"a": "b"}\n```'], ["[1]", "{name: 1}", "Here: {}", ""]),
    "no_commas": (["one and two"], ["one, two", ""]),
    "quoted": (['"Quite so."'], ['"half', "none", '"', ""]),
    "title": (["<<The lamp>> It shines."], ["<The lamp>", "<<my title>> It shines.", "<<>>", "<<a\nb>>", ""]),
}


def rule_of(kind: str, seed: int = 0) -> rules.Rule:
    made = (make(Random(seed)) for make in rules.RULES)
    return next(rule for rule in made if rule.kind == kind)


@pytest.mark.parametrize("kind", ANSWERS)
def test_checks(kind: str) -> None:
    """Oracle: answers written by hand."""
    for seed in range(5):
        rule = rule_of(kind, seed)
        kept, broken = ANSWERS[kind]
        assert [text for text in kept if not rule.holds(text)] == []
        assert [text for text in broken if rule.holds(text)] == []


@pytest.mark.parametrize("seed", range(6))
def test_checks_of_what_is_asked_for(seed: int) -> None:
    """Oracle: the number, word or phrase in the request itself."""
    words = {kind: rule_of(kind, seed).request.split('"') for kind in ("keyword", "forbidden", "ends_with")}
    word = words["keyword"][1]
    keyword, forbidden, ends = (rule_of(kind, seed) for kind in words)
    assert keyword.holds(f"I have a {word.upper()}.") and not keyword.holds(f"I have a {word}y thing")
    for banned in words["forbidden"][1::2]:
        assert not forbidden.holds(f"Look {banned} now")
    assert forbidden.holds("Anything else") and not forbidden.holds("")
    assert ends.holds(f"Bye. {words['ends_with'][1]}") and not ends.holds(f"{words['ends_with'][1]} Bye")
    starts = rule_of("starts_with", seed)
    first = starts.request.split('"')[1]
    assert starts.holds(f"{first}, so be it") and not starts.holds(f"{first}x") and not starts.holds(f"So {first}")
    for kind, piece in (("bullets", "* one\n"), ("sentences", "It is so. "), ("placeholders", "[a] ")):
        rule = rule_of(kind, seed)
        count = next(int(part) for part in rule.request.split() if part.isdigit())
        assert rule.holds((piece * count).strip()) and not rule.holds((piece * (count - 1)).strip())
        assert rule.holds((piece * (count + 1)).strip()) == (kind == "placeholders")


def test_every_rule_is_tested() -> None:
    """Oracle: the table of rules."""
    kinds = {make(Random(0)).kind for make in rules.RULES}
    given = {"keyword", "forbidden", "ends_with", "starts_with", "bullets", "sentences", "placeholders"}
    assert kinds == {*ANSWERS, *given}
    assert len(rules.RULES) == len(kinds)


def test_prompts() -> None:
    """Oracle: a seed gives the same prompts; each kind of rule in turn; sums by hand."""
    made = prompts(80)
    assert [one.text for one in made] == [one.text for one in prompts(80)] != [one.text for one in prompts(80, seed=1)]
    assert [one.text for one in prompts(8)] == [one.text for one in made[:8]]
    kinds = [one.rule.kind for one in made]
    assert kinds.count("question") == 20
    assert {kinds.count(make(Random(0)).kind) for make in rules.RULES} == {4}
    assert {one.text.split()[one.text.split().index("about") + 1] for one in made if "about" in one.text} == {"a", "an"}


def test_short_questions() -> None:
    """Oracle: sums computed from the question; no question twice among the first fifty; guesses are no answer."""
    asked = list(islice(short_questions(Random(4)), 50))
    assert len({question for question, _ in asked}) == 50
    for question, rule in asked:
        if "plus" in question:
            a, b = (int(part) for part in question.rstrip("?").split() if part.isdigit())
            assert rule.holds(f"It is {a + b}.") and not rule.holds(f"{a + b}1")
        assert not rule.holds("no idea") and not rule.holds("\n")
    france = next(rule for question, rule in asked if "France" in question)
    assert france.holds("It is paris.") and france.holds("Paris\nis a city") and not france.holds("I think\nParis")
    assert not france.holds("Berlin, or Madrid, or Rome, or London, or Vienna, or Athens, or Paris, or Oslo")


def test_answers_are_those_of_each_prompt_alone(chatty: Path) -> None:
    """Oracle: each prompt's own greedy generation, as a chat where there is a template and as a text where not."""
    model = braidlm.load(chatty, dtype="float32")
    made, told = prompts(18), []
    found = generation(model, made, lambda *counts: told.append(counts), max_tokens=6)
    assert told == [(16, 18), (18, 18)]
    for one, answer in zip(made, found.answers):
        alone = model.generate([{"role": "user", "content": one.text}], max_tokens=6)
        assert answer == CheckedAnswer(one.text, one.rule.kind, alone, one.rule.holds(alone.strip()))
    plain = braidlm.load("braid-6m", dtype="float32")
    (answer,) = generation(plain, made[:1], max_tokens=6).answers
    assert answer.text == plain.generate(f"Question: {made[0].text}\nAnswer:", max_tokens=6)


def test_a_real_model_knows_an_answer() -> None:
    """Oracle: a fact that SmolLM2-135M-Instruct is known to have learned."""
    question, rule = next(one for one in short_questions(Random(4)) if "France" in one[0])
    report = generation(braidlm.load("smollm2-135m"), [Prompt(question, rule)], max_tokens=12)
    assert report.whole.passed == 1.0


def test_scores() -> None:
    """Oracle: by hand."""
    answers = tuple(CheckedAnswer("", "ab"[n % 2], "", n in (0, 2, 4)) for n in range(8))
    report = GenerationReport(answers)
    assert report.whole == (8, 3 / 8, wilson(3, 8))
    assert {kind: one.passed for kind, one in report.by_kind.items()} == {"a": 3 / 4, "b": 0.0}
    refused(lambda: GenerationReport(()).whole, InputError, "no answers")
    refused(lambda: generation(model_of("llama"), prompts(1)), InputError, "no tokenizer")
