"""Chat templates: Jinja text that came with a model, rendered in a sandbox.

The template is data from elsewhere: it gets the messages and a few harmless helpers, and can
reach nothing else.
"""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import InputError


class _Generation(Extension):
    """`{% generation %}`: marks the assistant's text for training; its content is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own way to declare it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the tag and its end."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise, strftime_now=_now)
    return environment


@functools.lru_cache(8)
def _compiled(template: str) -> jinja2.Template:
    """Compiling takes milliseconds, rendering microseconds; many conversations have the same template."""
    return _environment().from_string(template)


def render(template: str, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
    """The text of `messages` by `template`; `InputError` if either is not right for the other."""
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InputError(f"message {number} is {message!r}, but must have a role and a content")
    try:
        return _compiled(template).render(messages=messages, **variables)
    except jinja2.TemplateError as error:
        raise InputError(f"the chat template refused these messages: {' '.join(str(error).split())}") from None
    except Exception as error:  # a template is somebody else's program and may fail in any way
        raise InputError(f"the chat template failed on these messages: {' '.join(str(error).split())}") from None


def variables(template: str) -> frozenset[str]:
    """Names that `template` is to be given; none of a template that is no valid one."""
    try:
        return frozenset(meta.find_undeclared_variables(_environment().parse(template)))
    except jinja2.TemplateError:
        return frozenset()
