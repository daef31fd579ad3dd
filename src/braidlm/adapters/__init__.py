"""LoRA adapters and learned initial states: small changes of a model that are trained, kept and served beside it."""

from .attach import Adapters, Kind, attach
from .config import Lora
from .files import load_adapter, save_adapter
from .initial import InitialState, StateTuning, attach_initial, detach_initial, load_initial, put_on, save_initial
from .merging import merge
from .registry import AdapterRegistry

__all__ = [
    "AdapterRegistry",
    "Adapters",
    "InitialState",
    "Kind",
    "Lora",
    "StateTuning",
    "attach",
    "attach_initial",
    "detach_initial",
    "load_adapter",
    "load_initial",
    "merge",
    "put_on",
    "save_adapter",
    "save_initial",
]
