"""Pieces of the page: sections, tables, notes. All text is escaped here and in `plots`, nowhere else."""

from collections.abc import Collection, Iterable, Sequence
from html import escape

from .words import NONE

# Characters of a cell beyond which its text may be broken.
_LONG = 40


def section(title: str, *parts: str) -> str:
    """Section with a title; "" if there is nothing in it."""
    inside = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def paragraph(text: str) -> str:
    """Paragraph of text."""
    return f"<p>{escape(text)}</p>"


def notes(texts: Sequence[str]) -> str:
    """List of remarks, each once; "" without any."""
    items = "".join(f"<li>{escape(text)}</li>" for text in dict.fromkeys(texts))
    return f'<ul class="notes">{items}</ul>' if items else ""


def remarks(said: Iterable[tuple[str, str]]) -> str:
    """List of what is said of models, each remark once with the names of all it is said of; "" without any."""
    names: dict[str, list[str]] = {}
    for name, text in said:
        if name not in names.setdefault(text, []):
            names[text].append(name)
    return notes([f"{'; '.join(of)}: {text}" for text, of in names.items()])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", text: Collection[int] = ()) -> str:
    """Table that scrolls where it is wide, with the names of rows in the first column; "" without rows.

    Columns hold numbers, but for those in `text`.
    """
    if not rows:
        return ""
    kinds = [' class="text"' if index in text else "" for index in range(len(heads))]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(heads, kinds, strict=True))
    body = "".join(f"<tr>{_row(row, kinds)}</tr>" for row in rows)
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide" tabindex="0"><table>{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _row(row: Sequence[str], kinds: Sequence[str]) -> str:
    kinds = [' class="long text"' if len(cell) > _LONG else kind for cell, kind in zip(row, kinds, strict=True)]
    cells = [f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)]
    return "".join([f'<th scope="row">{escape(row[0])}</th>', *cells[1:]])


def answers(made: Sequence[tuple[str, str]]) -> str:
    """Answers side by side, each with the name of its model."""
    cells = "".join(
        f'<div class="answer"><h4>{escape(name)}</h4><pre>{escape(text.strip() or NONE)}</pre></div>'
        for name, text in made
    )
    return f'<div class="answers">{cells}</div>'


def figures(*drawn: str) -> str:
    """Figures side by side; "" without any."""
    inside = "".join(drawn)
    return f'<div class="figures">{inside}</div>' if inside else ""
