"""Families, the published formats, one file each; they are found by looking into this package."""

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from ..errors import SpecError
from ..spec import ModelSpec
from .base import Family
from .config import Config
from .names import Alias, Drop, NameRule, Rule


@functools.cache
def families() -> tuple[Family, ...]:
    """All families, in order of file name."""
    found: list[Family] = []
    for module in pkgutil.iter_modules(__path__):
        found += getattr(importlib.import_module(f"{__name__}.{module.name}"), "FAMILIES", ())
    return tuple(found)


def supported() -> str:
    """The supported model types as one phrase."""
    return ", ".join(sorted(name for family in families() for name in family.model_types))


def of_config(config: Mapping[str, Any]) -> Family:
    """Family of a config.json; `SpecError` lists what is supported."""
    for family in families():
        if family.accepts(config):
            return family
    kind = config.get("model_type")
    raise SpecError(f"model_type {kind!r} is not supported; supported are {supported()}")


def by_name(name: str) -> Family:
    """Family called `name`."""
    for family in families():
        if family.name == name:
            return family
    raise SpecError(f"format {name!r} is not known; known are {', '.join(family.name for family in families())}")


def of_gguf(arch: str, fields: Mapping[str, Any]) -> Family:
    """Family whose GGUF files have this architecture, and its metadata (without the architecture's prefix)."""
    known: set[str] = set()
    for family in families():
        if family.gguf is not None:
            known.add(family.gguf.arch)
            if family.gguf.arch == arch and family.gguf.matches(fields):
                return family
    raise SpecError(f"GGUF architecture {arch!r} is not supported; supported are {', '.join(sorted(known))}")


def for_spec(spec: ModelSpec, preferred: str | None = None) -> tuple[Family, dict[str, Any]]:
    """Family that can express `spec`, and its config: `preferred`, or the first that can."""
    if preferred is not None:
        family = by_name(preferred)
        return family, family.write(spec)
    for family in families():
        try:
            return family, family.write(spec)
        except SpecError:
            continue
    raise SpecError("no published format can express this model; save it with format='braidlm'")


__all__ = [
    "Alias",
    "Config",
    "Drop",
    "Family",
    "NameRule",
    "Rule",
    "by_name",
    "families",
    "for_spec",
    "of_config",
    "of_gguf",
    "supported",
]
