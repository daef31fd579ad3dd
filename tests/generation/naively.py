"""The naive loop on a `LanguageModel`: the oracle of all that generates."""

from collections.abc import Iterator, Sequence

from braidlm import LanguageModel
from braidlm.generation.continuation import Token
from braidlm.generation.naive import generate_naively
from braidlm.generation.sampling import Sampling
from braidlm.ops import dispatch


def naively(
    model: LanguageModel, ids: Sequence[int], sampling: Sampling, kv_dtype: str | None = None
) -> Iterator[Token]:
    """Tokens after one prompt, by one pass of the model (or of its deterministic runner) each."""
    detokenizer = model.tokenizer.stream() if model.tokenizer else None
    state = model.new_state(kv_dtype=kv_dtype)
    with dispatch.using(model.ops):
        yield from generate_naively(model._run, ids, state, sampling, ends=model.origin.ends, detokenizer=detokenizer)
