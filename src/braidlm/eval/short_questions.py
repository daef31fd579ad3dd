"""Short questions whose answer is one word or number."""

import re
from collections.abc import Iterator
from random import Random

from .rules import Rule

_FACTS = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Egypt?", "Cairo"),
    ("What is the capital of Spain?", "Madrid"),
    ("What is the capital of Germany?", "Berlin"),
    ("Which planet do we live on?", "Earth"),
    ("Which planet is known as the red planet?", "Mars"),
    ("Which is the largest planet of the solar system?", "Jupiter"),
    ("What colour is the sky on a clear day?", "blue"),
    ("What colour is grass?", "green"),
    ("What do bees make?", "honey"),
    ("What is frozen water called?", "ice"),
    ("What is the opposite of hot?", "cold"),
    ("What is the opposite of up?", "down"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("How many days does a week have?", "seven|7"),
    ("How many months does a year have?", "twelve|12"),
    ("How many legs does a spider have?", "eight|8"),
    ("Which month comes after March?", "April"),
    ("Which day comes after Monday?", "Tuesday"),
    ("What is the chemical symbol of oxygen?", "O"),
    ("What is the largest ocean?", "Pacific"),
    ("Which animal is known as the king of the jungle?", "lion"),
    ("What is the capital of Greece?", "Athens"),
    ("What is the capital of Russia?", "Moscow"),
    ("What is the capital of Austria?", "Vienna"),
    ("On which continent is Kenya?", "Africa"),
    ("On which continent is China?", "Asia"),
    ("Which language is spoken in Brazil?", "Portuguese"),
    ("Which metal is liquid at room temperature?", "mercury"),
    ("What gas do plants take in?", "carbon dioxide|CO2"),
    ("What is the opposite of day?", "night"),
    ("What is the plural of mouse?", "mice"),
    ("What is the past tense of go?", "went"),
    ("How many minutes does an hour have?", "sixty|60"),
    ("How many sides does a triangle have?", "three|3"),
    ("Which season comes after winter?", "spring"),
    ("Which organ pumps blood?", "heart"),
    ("Who painted the Mona Lisa?", "Leonardo|da Vinci"),
)
# Words of the first line, in which an answer stands: a list of guesses is none.
_MOST = 12


def short_questions(rng: Random) -> Iterator[tuple[str, Rule]]:
    """Endless questions, each fourth a sum, and the rule that a short first line has the answer as a word of its own.

    No question comes twice before all have come.
    """
    while True:
        facts = rng.sample(_FACTS, len(_FACTS))
        sums = rng.sample([(a, b) for a in range(2, 10) for b in range(a, 10)], len(facts) // 3)
        for number, fact in enumerate(facts):
            yield _asked(*fact)
            if number % 3 == 2:
                a, b = sums.pop()
                yield _asked(f"What is {a} plus {b}?", str(a + b))


def _asked(question: str, answer: str) -> tuple[str, Rule]:
    pattern = re.compile(rf"\b(?:{answer})\b", 0 if answer == "O" else re.IGNORECASE)

    def holds(text: str) -> bool:
        line = text.split("\n")[0]
        return len(line.split()) <= _MOST and pattern.search(line) is not None

    return question, Rule("question", "Answer with one word or number.", holds)
