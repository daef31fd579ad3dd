"""Whose written texts decide how a prompt is cut into tokens: one's own, in deterministic runs a session's alone."""

import pytest

from braidlm.engine import Grammar
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Chats, Session, Turn
from braidlm.sessions.chat_memory import ChatMemory
from braidlm.sessions.transcripts import MessageEnd, known_of
from tests.sessions.chats import LIMITS, chat_model

# Words of which the tokenizer has pieces, and which random weights mostly write letter by letter.
WORDS = Grammar("regex", "(do|he|nd|ve){8}")
SAMPLING = Sampling(max_tokens=20, temperature=1.0, seed=5)
ASK = {"role": "user", "content": "say something"}


def talk(chats: Chats, scope: str, messages: list[dict[str, str]]) -> tuple[list[dict[str, object]], tuple[int, ...]]:
    """A plain chat's messages after one more answer, and the ids that the model has seen by then."""
    turn = chats.begin(messages, SAMPLING, grammar=WORDS, cache_salt=scope)
    made = [token for _, token in turn.handle]
    session = chats.finish(Session(), turn, made)
    return session.messages, session.ids


def answered(chats: Chats, session: Session, text: str) -> tuple[Session, Turn]:
    turn = chats.begin_in(session, [*session.messages, {"role": "user", "content": text}], SAMPLING, grammar=WORDS)
    return chats.finish(session, turn, [token for _, token in turn.handle]), turn


def prompt_of(chats: Chats, scope: str, messages: list[dict[str, object]]) -> tuple[int, ...]:
    turn = chats.begin([*messages, ASK], SAMPLING, cache_salt=scope)
    turn.handle.cancel()
    turn.handle.wait()
    return turn.prompt.ids


@pytest.mark.parametrize("deterministic", [False, True])
def test_plain_chats(deterministic: bool) -> None:
    """Oracle: for other keys, and for every plain chat of a deterministic model, the ids of chats that begin now.

    The answers are letters that the model cut otherwise than the tokenizer does, which the test makes sure of.
    """
    model = chat_model("mamba2", deterministic=deterministic)
    with model.engine(limits=LIMITS) as engine, model.engine(limits=LIMITS) as other:
        chats = Chats(model, engine)
        messages, ids = talk(chats, "one", [ASK])
        cold = prompt_of(Chats(model, other), "one", messages)
        assert cold[: len(ids)] != ids
        assert prompt_of(chats, "two", messages) == cold
        own = prompt_of(chats, "one", messages)
        if deterministic:
            assert own == cold
        else:
            assert own[: len(ids)] == ids


@pytest.mark.parametrize("deterministic", [False, True])
def test_sessions_know_themselves_alone(deterministic: bool) -> None:
    """Oracle: the same session by chats that nobody else has used; and the ids that it has seen."""
    model = chat_model("mamba2", deterministic=deterministic)
    with model.engine(limits=LIMITS) as engine, model.engine(limits=LIMITS) as other:
        chats, fresh = Chats(model, engine), Chats(model, other)
        session, _ = answered(chats, Session(), "say something")
        # A plain chat of the same key that says the same words in other tokens, and goes on otherwise.
        talk(chats, "", [*session.messages, ASK])
        after, turn = answered(chats, session, "more")
        expected, cold = answered(fresh, session, "more")
        assert turn.prompt == cold.prompt
        assert after.ids == expected.ids
        assert turn.prompt.ids[: len(session.ids)] == session.ids
        # A session with the same messages that has not written them is cut as a new text is.
        told = Session([dict(message) for message in session.messages])
        _, turn = answered(chats, told, "more")
        assert turn.prompt.ids[: len(session.ids)] != session.ids
        assert turn.prompt.ids == chats.transcripts.prompt([*told.messages, {"role": "user", "content": "more"}]).ids


def test_known_of() -> None:
    """Oracle: by hand: the last place before the texts part."""
    known = known_of("abcdefgh", range(8), [MessageEnd(6, 5), MessageEnd(2, 2), MessageEnd(4, 3)])
    for text, expected in {"abcdefgh": 6, "abcdexxx": 4, "abcd": 4, "abc": 2, "ab": 2, "a": 0, "xbcdefgh": 0}.items():
        size, ids = known(text)
        assert (size, len(ids)) == (expected, {6: 5, 4: 3, 2: 2, 0: 0}[expected])


def test_scopes_and_the_bound() -> None:
    """Oracle: by hand: a scope sees its own texts; those longest unused go first, whoever's they are."""
    written = ChatMemory(most=10)
    written.add_chat("a", "hello there", range(4), [MessageEnd(5, 2), MessageEnd(11, 4)])
    assert written.known("a")("hello there!")[0] == 11
    assert written.known("a")("hello you")[0] == 5
    for scope in ("", "b", "ah", "a" * 9):
        assert written.known(scope)("hello there!") == (0, ())
    assert written.known("")("ahello there!") == (0, ())
    written.add_chat("b", "another", range(8), [MessageEnd(7, 8)])
    assert written.known("b")("another")[0] == 7
    assert written.known("a")("hello there!")[0] == 5
    assert sum(written._lengths.values()) == len(written._texts) == 2
