"""Tool calls in what models write: one file a format, a reader that takes them out of an answer as it arrives.

It knows formats, not models or servers: which format a model writes, its chat template or its user says.
"""

from .call import Call, Found, Function
from .format import Format
from .formats import AUTO, NAMES, check_name, formats_of, rule_of, tokens_of
from .reader import ToolCallReader

__all__ = [
    "AUTO",
    "NAMES",
    "Call",
    "Format",
    "Found",
    "Function",
    "ToolCallReader",
    "check_name",
    "formats_of",
    "rule_of",
    "tokens_of",
]
