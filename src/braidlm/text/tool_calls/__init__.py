"""Tool calls in answers of models: one file a format, a reader that takes them out of an answer as it arrives.

It knows formats, not models or servers: which format a model writes, its chat template or its user says.
"""

from .call import Call, Found, Function, MismatchError, arguments_of
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
    "MismatchError",
    "ToolCallReader",
    "arguments_of",
    "check_name",
    "formats_of",
    "rule_of",
    "tokens_of",
]
