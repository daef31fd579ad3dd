"""Tokenizer with a chat template, and what it masks."""

import copy
from functools import cache

from tokenizers import AddedToken

from braidlm.text.tokenizer import Settings, Tokenizer
from tests.text.made import backend

CONTROL = ["<s>", "</s>", "<|end|>", "<|user|>", "<|assistant|>", "<start_of_turn>", "<end_of_turn>", "<|eot_id|>"]
# In the manner of ChatML, with a system message of its own.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0].role != 'system' %}<|im_start|>system\nBe brief"
    "<|im_end|>\n{% endif %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def tokenizer(template: str) -> Tokenizer:
    made = copy.deepcopy(backend())
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    return Tokenizer(made, Settings({"bos_token": "<s>", "eos_token": "</s>"}, template))


def shown(found: Tokenizer, ids: list[int], trained: list[bool]) -> str:
    """The text with [[ and ]] around what is trained on."""
    text, before = "", False
    start = 0
    for place in range(len(ids) + 1):
        now = trained[place] if place < len(ids) else False
        if now != before or place == len(ids):
            part = found.decode(ids[start:place], skip_special=False)
            text += f"[[{part}]]" if before else part
            start, before = place, now
    return text
