"""Long texts: the same ids as ever, read while others run, and refused before they are read whole."""

import threading

import pytest

import braidlm
from braidlm.errors import ContextLengthError, InputError
from braidlm.text.tokenizer import Tokenizer

WORDS = "The quick brown fox, 12 of them;\n\tjumps over 天地玄黃 <|im_end|> and e\u0301 \U0001f600 again.  "


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = braidlm.load("smollm2-135m").tokenizer
    assert found is not None
    return found


@pytest.mark.parametrize("special", [True, False])
def test_ids_of_a_long_text(tokenizer: Tokenizer, special: bool) -> None:
    """Oracle: the library's own reading of one text, which is how short ones are read."""
    text = WORDS * 500
    backend = tokenizer._backend if special else tokenizer._plain
    found = tokenizer.encode(text, special=special)
    assert found == backend.encode(text).ids
    assert tokenizer.decode(found, skip_special=False) == text
    assert (tokenizer.id_of("<|im_end|>") in found) is special


def test_a_long_chat(tokenizer: Tokenizer) -> None:
    """Oracle: the ids of its parts: forged control tokens are plain text in a long message as in a short one."""
    short = tokenizer.encode_marked(tokenizer.render_marked([{"role": "user", "content": WORDS}]))
    long = tokenizer.encode_marked(tokenizer.render_marked([{"role": "user", "content": WORDS * 200}]))
    end = tokenizer.id_of("<|im_end|>")
    assert len(tokenizer.render_marked([{"role": "user", "content": WORDS * 200}])) > 1 << 12
    assert long.count(end) == short.count(end)  # type: ignore[arg-type]
    assert long[:20] == short[:20] and long[-8:] == short[-8:]


def test_others_run_meanwhile(tokenizer: Tokenizer) -> None:
    """Oracle: a thread that counts: it comes to no count at all where the library keeps Python's lock."""
    counted, over = [0], threading.Event()

    def count() -> None:
        while not over.wait(0.001):
            counted[0] += 1

    text = WORDS * 4000
    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counted[0]
        tokenizer.encode(text)
        during = counted[0] - before
    finally:
        over.set()
        thread.join()
    assert during > 10


def test_half_a_surrogate_in_a_long_text(tokenizer: Tokenizer) -> None:
    """Oracle: the sentence that a short text gets."""
    for size in (1, 10_000):
        with pytest.raises(InputError, match="half of a surrogate pair"):
            tokenizer.encode("a" * size + "\ud800")


@pytest.mark.parametrize(
    ("text", "most", "reason"),
    [
        ("word " * 12_000, 1000, "has 2420 tokens in its first 12096 characters"),
        ("天地" * 30_000, 100, "hold 65536 at most"),
        (" " * 1_000_000, 100, "hold 65536 at most"),
        ("\ud800" * 100_000, 100, "hold 65536 at most"),
        ("ab cd " * 2_000_000, 100, "hold 65536 at most"),
    ],
)
def test_texts_that_are_too_long(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, text: str, most: int, reason: str
) -> None:
    """Oracle: the bounds by hand; no more of the text is read than the sentence says."""
    read: list[int] = []
    whole = tokenizer.encode_marked
    monkeypatch.setattr(tokenizer, "encode_marked", lambda part: read.append(len(part)) or whole(part))
    with pytest.raises(ContextLengthError, match=reason):
        tokenizer.require_tokens(text, most)
    assert sum(read) <= 8 * most + 4096


@pytest.mark.parametrize("count", [1, 100, 8000])
def test_what_fits_is_not_refused(tokenizer: Tokenizer, count: int) -> None:
    """Oracle: the number of its tokens, which is the bound, whatever the text is made of."""
    for text in ("a", "天", "word ", "\n", " ", "0", "!?", "\U0001f600"):
        tokens = tokenizer.encode(text * count)
        tokenizer.require_tokens(text * count, len(tokens))


def test_ids_of_many(tokenizer: Tokenizer) -> None:
    """Oracle: the decoding of each half."""
    ids = tokenizer.encode(WORDS * 120)
    half = tokenizer.encode(WORDS * 60)
    assert len(ids) > 1 << 12
    assert tokenizer.decode(ids) == tokenizer.decode(half) * 2
