"""LoRA and learned initial states: small changes of a model that are trained, kept and served apart from it."""

from .attach import Adapters, Kind, attach
from .config import Lora
from .files import load, save
from .initial import InitialState, StateTuning, attach_initial, detach_initial, load_initial, put_on, save_initial
from .merging import merge
from .variants import Variants

__all__ = [
    "Adapters",
    "InitialState",
    "Kind",
    "Lora",
    "StateTuning",
    "Variants",
    "attach",
    "attach_initial",
    "detach_initial",
    "load",
    "load_initial",
    "merge",
    "put_on",
    "save",
    "save_initial",
]
