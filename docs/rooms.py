"""Picture of the rooms of braidlm, made from the imports of its code: `python docs/rooms.py` writes docs/rooms.svg.

A room is a package (or module) at the top of `src/braidlm`. It stands above all rooms that it imports; a line is drawn
to those among them that no other room between already reaches.
"""

import ast
import re
from html import escape
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "braidlm"
PICTURE = Path(__file__).with_name("rooms.svg")
_BOX, _HIGH, _GAP, _RISE, _EDGE = 226, 44, 18, 78, 16


def rooms() -> dict[str, set[str]]:
    """Every room, and the rooms that its files import."""
    found: dict[str, set[str]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        if not room.startswith("__"):
            found.setdefault(room, set()).update(imported(file) - {room})
    return found


def imported(file: Path) -> set[str]:
    """Rooms that one file imports."""
    package = ["braidlm", *file.relative_to(SOURCE).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            found.update([base[1]] if len(base) > 1 else [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("braidlm."):
            found.add(str(node.module).split(".")[1])
    return {name for name in found if not name.startswith("__")}


def floors(imports: dict[str, set[str]]) -> list[list[str]]:
    """The rooms from the lowest floor to the highest, each on the first floor above all that it imports."""
    made: list[list[str]] = []
    left = dict(imports)
    while left:
        floor = sorted(room for room, others in left.items() if not others & left.keys())
        if not floor:
            raise SystemExit(f"these rooms import each other in a circle: {', '.join(sorted(left))}")
        made.append(floor)
        left = {room: others for room, others in left.items() if room not in floor}
    return made


def nearest(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imported rooms that are not reached through another imported one."""
    reached: dict[str, set[str]] = {}
    for room in (room for floor in floors(imports) for room in floor):
        reached[room] = imports[room].union(*(reached[other] for other in imports[room]))
    return {
        room: {other for other in others if not any(other in reached[between] for between in others)}
        for room, others in imports.items()
    }


def described(room: str) -> str:
    """What the docstring of a room begins with, up to its first colon or stop."""
    file = SOURCE / room / "__init__.py" if (SOURCE / room).is_dir() else SOURCE / f"{room}.py"
    first = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0]
    return re.split(r"[:.] ?", first)[0]


def picture() -> str:
    """The picture as SVG, the command line on top."""
    imports = rooms()
    stack = floors(imports)[::-1]
    width = max(map(len, stack)) * (_BOX + _GAP) + _GAP
    place = {}
    for row, floor in enumerate(stack):
        left = (width - len(floor) * (_BOX + _GAP) + _GAP) / 2
        place |= {room: (left + index * (_BOX + _GAP), _EDGE + row * _RISE) for index, room in enumerate(floor)}
    pairs = [(room, other) for room, others in sorted(nearest(imports).items()) for other in sorted(others)]
    lines = [_line(place[room], place[other]) for room, other in pairs]
    boxes = [_box(room, *place[room]) for room in sorted(place)]
    high = 2 * _EDGE + (len(stack) - 1) * _RISE + _HIGH
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {high}" font-family="sans-serif">'
    ground = f'<rect width="{width}" height="{high}" fill="#fbfaf6"/>'
    return "\n".join([head, ground, *lines, *boxes, "</svg>"]) + "\n"


def _line(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    x1, y1, x2, y2 = upper[0] + _BOX / 2, upper[1] + _HIGH, lower[0] + _BOX / 2, lower[1]
    bend = (y2 - y1) / 2
    curve = f"M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
    return f'<path d="{curve}" fill="none" stroke="#9aa8a4"/>'


def _box(room: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX}" height="{_HIGH}" rx="7" fill="#ffffff" stroke="#1d6b60"/>'
        f'<text x="{x + 12:g}" y="{y + 18:g}" font-size="14" font-weight="bold" fill="#1b1f1e">{room}</text>'
        f'<text x="{x + 12:g}" y="{y + 34:g}" font-size="11" fill="#4c5653">{escape(described(room))}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
