"""Environment of chat templates: jinja2's immutable sandbox with bounds on steps, sizes and depth.

The sandbox keeps a template from reaching what is not its own. That it ends, and within memory, is seen to here: loops,
macros and blocks pay for their bodies (`_charge`, a pass over the parsed template), operators, comparisons, slices and
output pay by what the code generator writes for them, methods and filters by what they are called with. Nothing is
computed while a template is compiled.
"""

import functools
import types
from collections.abc import Callable
from typing import Any, cast

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from markupsafe import Markup

from . import template_bounds as bounds
from .template_meter import METER, BoundError, Steps

# The longest published template has 30,000 characters, a tenth of this in words, and a depth of ten.
_MOST_CHARACTERS, _MOST_TOKENS, _MOST_DEPTH, _MOST_DIGITS = 400_000, 30_000, 100, 100
_MOST_NUMBER = 10**9
# Tests that look at all of what they are given, with the comparison that costs as much.
_COMPARING = dict.fromkeys(("eq", "equalto", "==", "ne", "!=", "lower", "upper"), "eq") | {"in": "in"}
_COMPARING |= dict.fromkeys(("lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">="), "lt")
_CALL = 4


class Generation(Extension):
    """`{% generation %}`: marks the assistant's text for training; its content is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own way to declare it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the tag and its end."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Generator(CodeGenerator):
    """Code that asks the environment before it compares, cuts, joins or writes."""

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        if _is_cheap(node):
            super().visit_Compare(node, frame)
            return
        self.write("environment.compare(")
        self.visit(node.expr, frame)
        for operand in node.ops:
            self.write(f", {operand.op!r}, ")
            self.visit(operand.expr, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.noted(")
        self.visit(node.node, frame)
        self.write(")[")
        self.visit(node.arg, frame)
        self.write("]")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx != "load":
            super().visit_Tuple(node, frame)
            return
        self.write("environment.weighed(")
        super().visit_Tuple(node, frame)
        self.write(")")

    def visit_Pair(self, node: nodes.Pair, frame: Frame) -> None:
        self.write("environment.weighed(")
        self.visit(node.key, frame)
        self.write("): ")
        self.visit(node.value, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("{")
        for number, pair in enumerate(node.items):
            self.write(", " if number else "")
            self.visit_Pair(pair, frame)
        self.write("}")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        volatile, escapes = frame.eval_ctx.volatile, frame.eval_ctx.autoescape
        name = "(markup_join if context.eval_ctx.volatile else str_join)" if volatile else "str_join"
        self.write(f"{'markup_join' if escapes and not volatile else name}(environment.joinable((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        super()._output_child_pre(node, frame, finalize)
        self.write("environment.printed(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write(")")
        super()._output_child_post(node, frame, finalize)


def _is_cheap(node: nodes.Compare) -> bool:
    """Whether a comparison is with a short constant, which ends at once."""
    sides = (node.expr, node.ops[0].expr)
    equal = len(node.ops) == 1 and node.ops[0].op in ("eq", "ne")
    return equal and any(isinstance(side, nodes.Const) for side in sides)


class Sandbox(ImmutableSandboxedEnvironment):
    """Environment of chat templates. Rendering needs a `Meter` in `METER`."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[loopcontrols, Generation])
        del self.globals["lipsum"]
        self.globals.update(range=_range, dict=_dict)

    def meter_filters(self) -> None:
        """Makes all filters and tests pay. After this, none may be added."""
        self.filters = {name: _metered_filter(name, found) for name, found in self.filters.items()}
        tests: dict[str, Any] = dict(self.tests)
        self.tests |= {name: _metered_test(sign, tests[name]) for name, sign in _COMPARING.items()}

    def _tokenize(self, source: str, *rest: Any, **options: Any) -> Any:
        _check_source(source, self)
        return super()._tokenize(source, *rest, **options)

    def _generate(self, source: nodes.Template, *rest: Any, **options: Any) -> str:
        _charge(source)
        return super()._generate(source, *rest, **options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Computes `left operator right`, paid for."""
        bounds.binary(METER.get(), operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The method `format` or `format_map` of a text, bounded; None for all else."""
        if not isinstance(value, types.BuiltinMethodType | types.MethodType):
            return None
        text, name = value.__self__, value.__name__
        if name not in ("format", "format_map") or not isinstance(text, str):
            return None
        escapes = isinstance(text, Markup)

        def run(*args: Any, **options: Any) -> str:
            formatter = (
                bounds.BoundedEscapeFormatter(self, escape=type(text).escape)
                if isinstance(text, Markup)
                else bounds.BoundedFormatter(self)
            )
            named = args[0] if name == "format_map" else options
            made = formatter.vformat(text, () if name == "format_map" else args, named)
            return Markup(made) if escapes else made  # the formatter has escaped the fields

        return run

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Looks up `obj[argument]`, paid for."""
        return super().getitem(obj, self.weighed(argument))

    def call(__self, __context: Context, __obj: Any, *args: Any, **options: Any) -> Any:  # noqa: N805
        """Calls a function or method for a template, paid for."""
        meter = METER.get()
        meter.spend(_CALL)
        if isinstance(__obj, types.BuiltinMethodType):
            args = bounds.method(meter, __obj.__self__, __obj.__name__, (*args, *options.values()))[: len(args)]
        elif isinstance(__obj, LoopContext):  # a recursive loop goes on with other items
            args = tuple(meter.steps(items, 8) for items in args)
        elif getattr(__obj, "__self__", None) is not __self:
            deep = __obj is _dict or isinstance(__obj, types.MethodType)
            for value in (*args, *options.values()):
                _ = meter.weigh(value) if deep or isinstance(value, tuple) else meter.note(value)
        return meter.note(super().call(__context, __obj, *args, **options))

    def steps(self, items: Any, cost: int) -> Steps:
        """Pays for the items of a loop whose body costs so many steps; gives the items."""
        return METER.get().steps(items, cost)

    def spend(self, steps: int) -> None:
        """Pays for the body of a macro or block."""
        METER.get().spend(steps)

    compare = staticmethod(bounds.compare)

    def noted(self, value: Any) -> Any:
        """Pays for a value that is about to be cut; gives the value."""
        return METER.get().note(value)

    def weighed(self, value: Any) -> Any:
        """Pays for a value that may be a key; of a tuple, all of it is looked at each time."""
        if isinstance(value, tuple):
            METER.get().weigh(value)
        return value

    def joinable(self, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pays for parts that are about to be joined; gives the parts."""
        bounds.joined(METER.get(), "", parts)
        return parts

    def printed(self, value: Any) -> Any:
        """Pays for a value that is about to be written; gives the value."""
        METER.get().weigh(value)
        return value

    def concat(self, parts: Any) -> str:
        """Joins what a template, a macro or a block has written."""
        meter, found, size = METER.get(), [], 0
        for part in parts:
            found.append(part)
            size += len(part)
            if size > meter.most:
                break
        meter.allow(size)
        return "".join(found)


def _range(*numbers: Any) -> Any:
    if any(isinstance(number, int) and abs(number) > _MOST_NUMBER for number in numbers):
        raise BoundError(f"counts beyond {_MOST_NUMBER}")
    return safe_range(*numbers)


def _dict(*items: Any, **named: Any) -> dict[Any, Any]:
    return dict(*items, **named)


def _metered_filter(name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    place = 1 if hasattr(found, "jinja_pass_arg") else 0

    @functools.wraps(found)
    def run(*args: Any, **options: Any) -> Any:
        meter = METER.get()
        value = bounds.filtered(meter, name, args[place], args[place + 1 :], options)
        return meter.note(found(*args[:place], value, *args[place + 1 :], **options))

    return run


def _metered_test(sign: str, found: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(found)
    def run(left: Any, *right: Any) -> Any:
        bounds.compared(METER.get(), sign, left, right[0] if right else left)
        return found(left, *right)

    return run


def _check_source(source: str, environment: Environment) -> None:
    """Refuses texts that are too long, too deep, or have numbers of thousands of digits, before they are parsed."""
    if len(source) > _MOST_CHARACTERS:
        raise BoundError(f"has more than {_MOST_CHARACTERS} characters")
    depth = count = 0
    for line, kind, text in environment.lex(source):
        count += kind not in ("whitespace", "data")
        if kind == "operator":
            depth += (text in "([{") - (text in ")]}")
        if depth > _MOST_DEPTH:
            raise BoundError(f"has more than {_MOST_DEPTH} parentheses within each other")
        if kind in ("integer", "float") and len(text) > _MOST_DIGITS:
            raise TemplateSyntaxError(f"a number of more than {_MOST_DIGITS} digits", line)
        if count > _MOST_TOKENS:
            raise BoundError(f"has more than {_MOST_TOKENS} words and signs")


def _charge(node: nodes.Node) -> int:
    """Makes each loop, macro and block below `node` pay for its body; gives the number of nodes."""
    count = 1 + sum(_charge(child) for child in node.iter_child_nodes())
    cost = nodes.Const(2 + count // 4)
    if isinstance(node, nodes.For):
        node.iter = _asked("steps", [cast("nodes.Expr", node.iter), cost], node)
    elif isinstance(node, nodes.Macro | nodes.CallBlock | nodes.Block):
        node.body.insert(0, nodes.ExprStmt(_asked("spend", [cost], node), lineno=node.lineno))
    return count


def _asked(name: str, args: list[nodes.Expr], node: nodes.Node) -> nodes.Expr:
    method = nodes.EnvironmentAttribute(name, lineno=node.lineno)
    asked = nodes.Call(method, args, [], None, None, lineno=node.lineno)
    asked.environment = node.environment
    return asked
