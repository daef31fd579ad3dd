"""Tables of the settings of `braid serve`, made from their descriptions: `python docs/settings.py` writes serving.md.

The tables stand between two marks in that page; the rest of it is written by hand.
"""

from pathlib import Path

from braidlm.cli.serve_config import DEFAULTS, PANELS
from braidlm.system.settings import SettingField, settings_of

PAGE = Path(__file__).with_name("serving.md")
_BEGIN, _END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def table() -> str:
    """All settings: a table for each heading of `braid serve --help`."""
    return "\n".join(_panel(name, kind) for name, kind in PANELS.items())


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{after}"


def _panel(name: str, kind: type) -> str:
    rows = [_row(item) for item in settings_of(kind).values()]
    head = ["| setting | value | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([f"### {name}", "", *head, *rows, ""])


def _row(item: SettingField) -> str:
    default = str(DEFAULTS.get(item.name, item.default_text)) or ("false" if item.kind is bool else "none")
    value = 'bytes, or text such as "4GiB"' if item.setting.in_bytes else item.right
    return f"| `{item.name}` | {value} | {default} | {item.setting.help} |"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
