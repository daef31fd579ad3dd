"""Models of which lm-eval's own adapter of transformers and ours read the same files."""

from pathlib import Path
from typing import Any

import tokenizers

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.api.loading import read_tokenizer
from braidlm.checkpoints import embedded
from braidlm.checkpoints.saving import Origin
from braidlm.text.tokenizer import Settings, Tokenizer
from tests.quant.small import model_of

END = "<|endoftext|>"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


def without_special(model: LanguageModel) -> Tokenizer:
    """The tokenizer of a model, with neither a start token nor an end token."""
    assert model.tokenizer is not None
    return Tokenizer(tokenizers.Tokenizer.from_str(model.tokenizer.to_json()), Settings({}, None))


def tokenizer_of(*, start: bool) -> Tokenizer:
    """The embedded vocabulary with a chat template; with `start` every text begins with a start token."""
    backend = tokenizers.Tokenizer.from_str(read_tokenizer(embedded.NAME).to_json())
    special = {"eos_token": END}
    if start:
        number = backend.token_to_id(END)
        backend.post_processor = tokenizers.processors.TemplateProcessing(f"{END} $A", None, [(END, number)])
        special["bos_token"] = END
    return Tokenizer(backend, Settings(special, TEMPLATE))


def write_model(family: str, place: Path, *, start: bool = False, scale: float = 4.0) -> Path:
    """Writes a small random model of a family in its published layout; `scale` makes its predictions sharper."""
    tokenizer = tokenizer_of(start=start)
    spec = model_of(family).spec.to_json() | {"vocab": tokenizer.vocab_size}
    network: Any = braidlm.build(braidlm.ModelSpec.from_json(spec), seed=1).network
    network.norm.weight.data.mul_(scale)
    LanguageModel(network, tokenizer, Origin(ends=tokenizer.eos_ids)).save(place)
    return place
