"""Small models that chat, and what they answer."""

from dataclasses import replace

import braidlm
from braidlm import LanguageModel
from braidlm.engine import Grammar, Limits
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Chats, Session, Turn
from tests.families.tiny import tiny
from tests.text.made import byte_level

INTERVAL = 16
LIMITS = Limits(parallel=2, snapshot_interval=INTERVAL, prefill_chunk=32)
# Random weights write anything; as letters their answers read back as they were written.
LETTERS = Grammar("regex", "[a-z]{5,9}")
SAMPLING = Sampling(max_tokens=12, temperature=1.0, seed=5)


def chat_model(family: str, *, deterministic: bool = False) -> LanguageModel:
    tokenizer = byte_level()
    spec = replace(tiny(family, 0), vocab=tokenizer.vocab_size, max_positions=None)
    model = braidlm.build(spec, seed=1)
    return LanguageModel(model.network, tokenizer, model.origin, deterministic=deterministic)


def answered(
    chats: Chats, session: Session, text: str, keep: int | None = None, **more: object
) -> tuple[Session, Turn]:
    messages = [*session.messages[:keep], {"role": "user", "content": text}]
    turn = chats.begin_in(session, messages, SAMPLING, grammar=LETTERS, **more)  # type: ignore[arg-type]
    tokens = [token for _, token in turn.handle]
    return chats.finish(session, turn, tokens), turn
