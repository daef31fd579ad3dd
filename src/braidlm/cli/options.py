"""Options of the command line, made from the settings that dataclasses describe (`system/settings.py`)."""

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ..system.setting_files import named_paths, typed_value
from ..system.settings import SettingField, settings_of

Command = Callable[..., None]

# Greater bounds tell nobody anything.
_FOR_HELP = 1 << 31


def with_options(
    panels: Mapping[str, type],
    *,
    defaults: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
    over_file: bool = False,
) -> Callable[[Command], Command]:
    """Decorator of a command `f(model, ..., **given)`, which adds an option for each setting of some dataclasses.

    `panels` are these dataclasses by the headings in the help; `defaults` are defaults of this command that differ
    from theirs, and `without` names settings that get no option. `over_file`: options override a file's settings, so
    that what is on there can be switched off. The command is called with the values that were given, by the names of
    the settings in files.
    """
    found, options = dict[str, SettingField](), dict[str, Any]()
    for panel, kind in panels.items():
        for name, item in settings_of(kind).items():
            if name not in without:
                found[name] = item
                options[name] = _annotation(item, panel, (defaults or {}).get(name))
                if over_file and item.kind is bool:
                    options[_off(name)] = Annotated[bool | None, typer.Option(f"--no-{_hyphens(name)}", hidden=True)]

    def decorate(command: Command) -> Command:
        def call(**values: Any) -> None:
            given = {name: value for name in options if (value := values.pop(name)) not in (None, [])}
            off = {name: False for name in found if _off(name) in given}
            typed = {name: _typed(item, given[name]) for name, item in found.items() if name in given}
            command(**values, **(typed | off))

        return _declare(call, command, options)

    return decorate


def help_of(kind: type, name: str) -> str:
    """Help of the option of one setting, for commands that have few of them."""
    return settings_of(kind)[name].setting.help


def option_name(item: SettingField) -> str:
    """Name of a setting on the command line."""
    return f"--{_hyphens(item.name)}"


def _declare(call: Command, command: Command, options: Mapping[str, Any]) -> Command:
    """Gives `call` the parameters of `command` and the options, for typer to find; all are keywords."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    hints = get_type_hints(command, include_extras=True)
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in options]
    call.__doc__ = command.__doc__
    call.__annotations__ = {p.name: hints[p.name] for p in own} | dict(options)
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=p.KEYWORD_ONLY, annotation=call.__annotations__[p.name]) for p in (*own, *added)]
    )
    return call


def _annotation(item: SettingField, panel: str, default: Any) -> Any:
    """Type and option of a parameter; its default is told, but not used: None means that nothing was given."""
    shown, setting = item.default_text if default is None else str(default), item.setting
    text = _help(item)
    is_number = item.kind is int and not setting.in_bytes
    option = typer.Option(
        option_name(item),
        help=rf"{text} \[default: {shown}]" if shown else text,
        rich_help_panel=panel,
        show_default=False,
        metavar=_metavar(item),
        min=setting.least if is_number else None,
        max=setting.most if is_number and (setting.most or 0) < _FOR_HELP else None,
    )
    return Annotated[_type_of(item) | None, option]


def _help(item: SettingField) -> str:
    """Help of a setting, with whether its option may be repeated."""
    text = item.setting.help
    return f"{text.removesuffix('.')}; may be repeated." if _is_repeated(item) else text


def _is_repeated(item: SettingField) -> bool:
    return item.origin is tuple or item.is_table


def _type_of(item: SettingField) -> Any:
    """Type that typer reads from the command line."""
    if item.setting.in_bytes:
        return str
    return list[str] if _is_repeated(item) else item.kind


def _metavar(item: SettingField) -> str | None:
    if item.is_table:
        return "NAME=PATH"
    return "BYTES" if item.setting.in_bytes else None


def _typed(item: SettingField, value: Any) -> Any:
    """The value of a setting, of its type; `InputError` names the option if it is wrong."""
    name = option_name(item)
    if item.is_table:
        value = named_paths(value, name)
    value = typed_value(item, value, name, Path())
    item.check_value(value, name)
    return value


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


def _off(name: str) -> str:
    return f"no_{name}"
