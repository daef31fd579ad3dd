"""Stop texts: what is shown, what is held back, however the text is cut."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from braidlm.generation.continuation import StopTexts, Token

properties = settings(max_examples=300, deadline=None, derandomize=True)


def pushed(stops: list[str], parts: list[str]) -> tuple[str, bool]:
    """What is shown of `parts` in all, and whether a stop was found; what is held is the beginning of a stop."""
    texts, shown, seen = StopTexts(stops), "", ""
    for part in parts:
        new, stopped = texts.push(part)
        shown, seen = shown + new, seen + part
        assert not any(stop in shown for stop in stops)
        if stopped:
            return shown, True
        held = seen.removeprefix(shown)
        assert shown + held == seen
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)
    return shown + texts.flush(), False


letters = st.text("ab\n", max_size=30)
stop = st.text("ab\n", min_size=1, max_size=5)


def cut(text: str, at: list[int]) -> list[str]:
    bounds = [0, *sorted(min(i, len(text)) for i in at), len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


cuts = st.lists(st.integers(0, 30), max_size=12)


@properties
@given(letters, stop, cuts)
def test_one_stop(text: str, one: str, at: list[int]) -> None:
    """Oracle: str.partition, for any cut of the text into pieces, empty ones too."""
    before, found, _ = text.partition(one)
    assert pushed([one], cut(text, at)) == (before, bool(found))


@properties
@given(letters, st.lists(stop, max_size=4))
def test_several_stops_letter_by_letter(text: str, stops: list[str]) -> None:
    """Oracle: the shortest beginning of the text that ends with a stop, without the longest stop it ends with."""
    ends = [n for n in range(1, len(text) + 1) if text[:n].endswith(tuple(stops))]
    if not ends:
        assert pushed(stops, list(text)) == (text, False)
    else:
        longest = max(len(one) for one in stops if text[: ends[0]].endswith(one))
        assert pushed(stops, list(text)) == (text[: ends[0] - longest], True)


@properties
@given(letters, st.lists(stop, max_size=4), cuts)
def test_several_stops_in_pieces(text: str, stops: list[str], at: list[int]) -> None:
    """Oracle: the text up to a stop in it, or all of it; letter by letter it is never shorter."""
    shown, stopped = pushed(stops, cut(text, at))
    assert stopped == any(one in text for one in stops)
    assert text.startswith(shown)
    assert text[len(shown) :].startswith(tuple(stops)) if stopped else shown == text
    assert pushed(stops, list(text))[0].startswith(shown)


def text(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens)
