"""Short questions whose answer is one word or number."""

import re
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
)


def short_question(rng: Random) -> tuple[str, Rule]:
    """A question, and the rule that its first line has the answer as a word of its own."""
    if rng.random() < 0.25:
        a, b = rng.randrange(2, 10), rng.randrange(2, 10)
        question, answer = f"What is {a} plus {b}?", str(a + b)
    else:
        question, answer = rng.choice(_FACTS)
    pattern = re.compile(rf"\b(?:{answer})\b", 0 if answer == "O" else re.IGNORECASE)
    request = "Answer with one word or number."
    return question, Rule("question", request, lambda text: pattern.search(text.split("\n")[0]) is not None)
