"""Rules that an answer can be checked for without a judge (after IFEval, Zhou et al. 2023): a request, and a check."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from .words import PLACES, THINGS

_ENDINGS = ("That is all.", "Is there anything else?", "The end.", "Thank you.", "Good night.")


class Rule(NamedTuple):
    """Rule for an answer: its kind, the sentence that asks for it, and `holds(text)`, which says if it is kept."""

    kind: str
    request: str
    holds: Callable[[str], bool]


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text)


def _contains(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def _is_json(text: str) -> bool:
    inside = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        return isinstance(json.loads(inside[1] if inside else text), dict)
    except ValueError:
        return False


def at_most_words(rng: Random) -> Rule:
    """A greatest number of words."""
    most = rng.choice((10, 20, 30, 40))
    return Rule("at_most_words", f"Use at most {most} words.", lambda text: 0 < len(_words(text)) <= most)


def at_least_words(rng: Random) -> Rule:
    """A smallest number of words."""
    least = rng.choice((40, 50, 60))
    return Rule("at_least_words", f"Use at least {least} words.", lambda text: len(_words(text)) >= least)


def sentences(rng: Random) -> Rule:
    """A number of sentences."""
    count = rng.choice((1, 2, 3))
    noun = "sentence" if count == 1 else "sentences"
    return Rule(
        "sentences",
        f"Answer in exactly {count} {noun}.",
        lambda text: len(re.findall(r"[.!?]+(?=\s|$)", text)) == count,
    )


def lower_case(rng: Random) -> Rule:
    """No capital letters."""
    return Rule(
        "lower_case",
        "Write in lower case only, without any capital letter.",
        lambda text: text == text.lower() != text.upper(),
    )


def upper_case(rng: Random) -> Rule:
    """Capital letters only."""
    return Rule("upper_case", "WRITE IN CAPITAL LETTERS ONLY.", lambda text: text == text.upper() != text.lower())


def keyword(rng: Random) -> Rule:
    """A word that must be there."""
    word = rng.choice(THINGS)
    return Rule("keyword", f'Use the word "{word}" in your answer.', lambda text: _contains(text, word))


def forbidden(rng: Random) -> Rule:
    """Words that must not be there."""
    words = rng.sample(("the", "and", "is", "of", "to", "a"), 2)
    return Rule(
        "forbidden",
        f'Do not use the words "{words[0]}" and "{words[1]}".',
        lambda text: bool(_words(text)) and not any(_contains(text, word) for word in words),
    )


def ends_with(rng: Random) -> Rule:
    """A phrase at the end."""
    phrase = rng.choice(_ENDINGS)
    return Rule("ends_with", f'End your answer with the phrase "{phrase}"', lambda text: text.endswith(phrase))


def starts_with(rng: Random) -> Rule:
    """A word at the beginning."""
    word = rng.choice(("Well", "Today", "Listen", "Perhaps", "Certainly"))
    return Rule(
        "starts_with",
        f'Begin your answer with the word "{word}".',
        lambda text: re.match(rf"{word}\b", text) is not None,
    )


def valid_json(rng: Random) -> Rule:
    """A JSON object, also between code fences."""
    keys = " and ".join(f'"{key}"' for key in rng.sample(("name", "size", "colour", "price", "age"), 2))
    return Rule("json", f"Answer with a JSON object with the keys {keys}, and nothing else.", _is_json)


def bullets(rng: Random) -> Rule:
    """A number of bullet points."""
    count = rng.choice((2, 3, 4, 5))
    return Rule(
        "bullets",
        f'Answer with exactly {count} bullet points, each a line that begins with "* ".',
        lambda text: len(re.findall(r"^\s*[*-] ", text, re.MULTILINE)) == count,
    )


def no_commas(rng: Random) -> Rule:
    """No comma."""
    return Rule("no_commas", "Do not use any commas.", lambda text: bool(_words(text)) and "," not in text)


def quoted(rng: Random) -> Rule:
    """Double quotation marks around the answer."""
    return Rule(
        "quoted",
        "Put your whole answer in double quotation marks.",
        lambda text: len(text) > 2 and text[0] == text[-1] == '"',
    )


def title(rng: Random) -> Rule:
    """A title in double angle brackets."""
    return Rule(
        "title",
        "Give your answer a title in double angle brackets, such as <<my title>>.",
        lambda text: re.search(r"<<(?!my title>)[^<>\n]+>>", text) is not None,
    )


def placeholders(rng: Random) -> Rule:
    """A number of placeholders in square brackets."""
    least = rng.choice((1, 2, 3))
    return Rule(
        "placeholders",
        f"Use at least {least} placeholder{'s' if least > 1 else ''} in square brackets, such as [name].",
        lambda text: len(re.findall(r"\[[^\[\]]+\]", text)) >= least,
    )


RULES = (
    at_most_words,
    at_least_words,
    sentences,
    lower_case,
    upper_case,
    keyword,
    forbidden,
    ends_with,
    starts_with,
    valid_json,
    bullets,
    no_commas,
    quoted,
    title,
    placeholders,
)

_TOPICS = (
    "Write about {thing}.",
    "Describe {place} in the morning.",
    "Tell a short story about {thing} and {place}.",
    "What can one do with {thing}?",
    "Explain to a child what {thing} is.",
    "Why would somebody go to {place}?",
)


def topic(rng: Random) -> str:
    """What an answer is to be about."""
    return rng.choice(_TOPICS).format(thing=_one(rng.choice(THINGS)), place=_one(rng.choice(PLACES)))


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
