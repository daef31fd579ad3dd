"""Prompts at the beginning of completions: the text of each of their tokens, and its log probability."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from ..generation.choice import Choice
from ..generation.continuation import Token
from ..text.tokenizer import Tokenizer


def echoed(tokenizer: Tokenizer, ids: Sequence[int], text: str | None) -> list[Token]:
    """The tokens of a prompt, whose texts add up to what is shown of it: `text`, if it was given as one.

    Their log probabilities are 0; see `scored`.
    """
    pieces = list(_pieces(tokenizer, ids, text))
    if text is not None:
        # What a tokenizer changes (letters, blanks) is shown as it was given: the last token has the rest.
        begins = [min(begin, len(text)) for begin in accumulate(map(len, pieces[:-1]), initial=0)]
        pieces = [text[begin:end] for begin, end in pairwise([*begins, len(text)])]
    return [Token(token, piece, 0.0, None) for token, piece in zip(ids, pieces, strict=True)]


def scored(tokens: Sequence[Token], scores: Sequence[Choice]) -> list[Token]:
    """The tokens of a prompt with their log probabilities; the first one has none.

    An answer that was cut off may have `scores` of the prompt's beginning only: then only that is shown.
    """
    after = [token._replace(logprob=score.logprob, top=score.top) for token, score in zip(tokens[1:], scores)]
    return [*tokens[:1], *after]


def _pieces(tokenizer: Tokenizer, ids: Sequence[int], text: str | None) -> Iterator[str]:
    """Text that becomes certain with each token; control tokens are shown where the text names them."""
    stream, shown = tokenizer.stream(), 0
    for number, token in enumerate(ids):
        piece = stream.push(token)
        if text is not None and token in tokenizer.special_ids:
            name = tokenizer.decode([token], skip_special=False)
            piece += name if text.startswith(name, shown + len(piece)) else ""
        piece += stream.flush() if number == len(ids) - 1 else ""
        shown += len(piece)
        yield piece
