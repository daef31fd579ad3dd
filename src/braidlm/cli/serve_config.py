"""Configuration of `braid serve`, from a TOML file and the command line. What describes a setting is its dataclass."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ..engine.limits import Limits
from ..errors import InputError
from ..server.settings import Settings
from ..system.setting_files import read_settings, with_values
from ..system.settings import Setting, check_settings, require_value
from .load_options import LoadOptions

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """Addresses, files and processes of a server, each as its setting describes it."""

    host: Annotated[str, Setting("Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1"
    port: Annotated[int, Setting("Port to listen on; 0 for a free one.", least=0, most=65535)] = 8000
    shutdown_timeout: Annotated[
        int, Setting("Seconds that answers have to end after SIGTERM before they are cut.", least=0)
    ] = 30
    sessions: Annotated[
        Path | None, Setting("Directory of sessions.", unset="$BRAIDLM_SESSIONS, else below the user's data")
    ] = None
    adapters: Annotated[
        Mapping[str, Path],
        Setting("Adapter as NAME=DIR, served as model:NAME.", name="adapter"),
    ] = field(default_factory=dict)
    initial_states: Annotated[
        Mapping[str, Path],
        Setting("Learned initial state as NAME=FILE, served as model:NAME.", name="initial_state"),
    ] = field(default_factory=dict)
    ray_address: Annotated[
        str | None,
        Setting("Address of a Ray cluster that runs the replicas.", unset="$RAY_ADDRESS, else this machine alone"),
    ] = None

    def __post_init__(self) -> None:
        check_settings(self)


# By the headings of the help: all settings that `braid serve` has, but for MODEL.
PANELS: Mapping[str, type] = {"Server": ProcessSettings, "API": Settings, "Engine": Limits, "Model": LoadOptions}
# A server takes shorter prompts than an engine in a program of one's own, unless it is told otherwise.
DEFAULTS = {"max_prompt_tokens": 1 << 17}


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Configuration of a server: its model, and its settings by what they are about."""

    model: str
    process: ProcessSettings
    settings: Settings
    limits: Limits
    loading: LoadOptions


def read_config(file: Path | None, model: str | None, given: Mapping[str, Any]) -> ServeConfig:
    """Configuration in a TOML file, if there is one, with the values that were `given` in place of the file's.

    `InputError` names the first key that is unknown or has a wrong value, and its file.
    """
    written = {} if file is None else read_settings(file, PANELS.values(), ("model",))
    model = _find_model(model, written.pop("model", None), file)
    values: dict[str, Any] = {**DEFAULTS, **written, **given}
    process = ProcessSettings(**with_values(ProcessSettings, values))
    settings = Settings(
        **{"name": Path(model).name, **with_values(Settings, values)} | {"api_keys": _keys(values)},
        # A page from elsewhere could have its own name point here; it would ask by that name.
        allowed_hosts=(*LOCAL, "[::1]") if process.host in LOCAL else (),
        adapters=tuple(process.adapters),
        initial_states=tuple(process.initial_states),
    )
    if process.ray_address is not None and settings.replicas == 1:
        raise InputError("--ray-address is where replicas run; say how many with --replicas")
    limits, loading = Limits(**with_values(Limits, values)), LoadOptions(**with_values(LoadOptions, values))
    return ServeConfig(model=model, process=process, settings=settings, limits=limits, loading=loading)


def _find_model(model: str | None, written: Any, file: Path | None) -> str:
    """The model that is given, or that a file names by a path relative to it or by another name.

    A path becomes absolute: replicas have working directories of their own.
    """
    require_value(
        isinstance(written, str | None) and written != "", f"{file}: model", written, "a model's path or name"
    )
    if model is None and (file is None or written is None):
        raise InputError("no model is named; give MODEL, or --config FILE with the key model")
    if model is None and file is not None:
        beside = file.parent / os.path.expanduser(written)
        model = str(beside) if os.path.exists(beside) else None
    named = written if model is None else model
    return str(Path(named).absolute()) if os.path.exists(named) else str(named)


def _keys(values: Mapping[str, Any]) -> tuple[str, ...]:
    return (*values.get("api_key", ()), *filter(None, os.environ.get("BRAIDLM_API_KEYS", "").split(",")))
