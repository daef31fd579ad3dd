"""Chat templates: Jinja text that came with a model, rendered in a sandbox that bounds what they do.

The template is data from elsewhere: it gets the messages and a few harmless helpers, and can reach nothing else. What
bounds its time and memory stands in `text.template_sandbox`.
"""

import datetime
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import meta

from ..errors import InputError, quoted
from .template_meter import METER, BoundError, Meter, measure
from .template_sandbox import Sandbox

_MOST_PATTERN = 256


def _raise(message: Any) -> None:
    METER.get().weigh(message)
    raise jinja2.TemplateError(str(message))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(pattern: str) -> str:
    # The C library pads to any width that stands in a pattern.
    if isinstance(pattern, str) and (len(pattern) > _MOST_PATTERN or re.search(r"%[^A-Za-z%]*\d", pattern)):
        raise BoundError("asks for the time in a form with widths, or a very long one")
    return datetime.datetime.now().strftime(pattern)


@functools.cache
def _environment() -> Sandbox:
    environment = Sandbox()
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise, strftime_now=_now)
    environment.meter_filters()
    return environment


@functools.lru_cache(8)
def _compiled(template: str) -> jinja2.Template:
    """A compiled template: compiling takes milliseconds, rendering microseconds, and many chats have the same one."""
    return _environment().from_string(template)


def render(template: str, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
    """The text of `messages` by `template`; `InputError` if either is not right for the other."""
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InputError(f"message {number} is {quoted(message)}, but must have a role and a content")
    before = METER.set(Meter(measure([messages, variables]), len(messages)))
    try:
        return _compiled(template).render(messages=messages, **variables)
    except BoundError as error:
        raise InputError(f"the chat template {error}") from None
    except jinja2.TemplateError as error:
        raise InputError(f"the chat template refused these messages: {_line(error)}") from None
    except Exception as error:  # a template is somebody else's program and may fail in any way
        raise InputError(f"the chat template failed on these messages: {_line(error)}") from None
    finally:
        METER.reset(before)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 1000 else f"{text[:1000]}..."


def variables(template: str) -> frozenset[str]:
    """Names that `template` is to be given; none of a template that is no valid one (rendering says why)."""
    try:
        return frozenset(meta.find_undeclared_variables(_environment().parse(template)))
    except (jinja2.TemplateError, BoundError, RecursionError, ValueError):
        return frozenset()
