"""Small changes of a model that are trained, kept and served apart from it: low-rank adapters, learned states."""

from .attach import Adapters, Kind, attach
from .config import Lora
from .files import load, save

__all__ = ["Adapters", "Kind", "Lora", "attach", "load", "save"]
