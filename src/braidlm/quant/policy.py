"""Policy of quantization: which weights, to which form; and the quantization of a model in memory.

The policy is a table of weights' names and forms; it is saved with a model. Matrices that are read
for every token are in it. What is small and steers a recurrence or a choice is not: convolutions,
routers, the time-step projections of Mamba-1, decays, poles, norms, biases.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from ..errors import InputError
from ..layers.feed_forward import Moe
from ..layers.linear import Embedding, Linear
from ..layers.mamba import Mamba
from ..model.assign import assign
from ..model.model import Model
from ..ops.linear.quantized import FORMS, QuantizedWeight, quantizable
from ..ops.linear.round_to_nearest import quantize_weight
from .calibrate import calibrate_blocks
from .gptq import FORMS as CALIBRATED

Progress = Callable[[int, int], None]

_STEERING = {Mamba: ("x_proj", "dt_proj")}
# The rows of tokens and the scores of tokens lose more by 4 bits than blocks do.
_FORM_OF_TOKENS = {"int4": "int8"}
_TOKENS = ("embed.weight", "head.weight")


def check_form(form: str) -> None:
    """Raises `InputError` unless weights can be quantized to `form`."""
    if form not in FORMS:
        raise InputError(f"quantize is {form!r}, but must be one of {', '.join(FORMS)}")


def policy_of(model: Model, form: str) -> dict[str, str]:
    """The usual policy, forms by weight: every matrix that can be quantized, by name.

    With int4, embedding and head get int8.
    """
    check_form(form)
    found = {}
    for name, shape in _matrices(model):
        wanted = _FORM_OF_TOKENS.get(form, form) if name in _TOKENS else form
        if quantizable(shape, wanted):
            found[name] = wanted
    return found


def check_policy(model: Model, policy: Mapping[str, str]) -> None:
    """Raises `InputError` if a policy names what cannot be quantized, or a form that there is not."""
    shapes = dict(_matrices(model))
    for name, form in policy.items():
        if name not in shapes:
            raise InputError(f"the policy names {name!r}, which is no weight of this model that can be quantized")
        if form not in FORMS:
            raise InputError(f"the policy gives {name} the form {form!r}, but it must be one of {', '.join(FORMS)}")
        if not quantizable(shapes[name], form):
            raise InputError(f"the policy gives {name} the form {form}, but its shape is {list(shapes[name])}")


def _matrices(model: Model) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights that a policy may name."""
    found = []
    for name, module in model.named_modules():
        parts: tuple[str, ...] = ()
        if isinstance(module, (Linear, Embedding)):
            parts = () if _is_steering(model, name) else ("weight",)
        elif isinstance(module, Moe):
            parts = ("gate_up", "down")
        found += [(f"{name}.{part}", tuple(getattr(module, part).shape)) for part in parts]
    return found


def _is_steering(model: nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    return any(isinstance(model.get_submodule(owner), kind) and leaf in kept for kind, kept in _STEERING.items())


def quantized_weights(model: nn.Module) -> dict[str, QuantizedWeight]:
    """Quantized weights of a model, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedWeight)}


def quantize(
    model: Model,
    form: str,
    policy: Mapping[str, str] | None = None,
    calibration: Sequence[Tensor] | None = None,
    progress: Progress | None = None,
) -> None:
    """Quantizes the weights of `model` in place, one at a time.

    `policy` (names to forms) takes the place of `policy_of`. `calibration` holds rows of token ids,
    [L] each: int4 and int8 weights of blocks are then quantized so that the blocks' outputs on that text stay
    close (see `calibrate`). `progress(done, total)` is called for each weight.
    """
    model.require_no_adapters("quantized")
    if quantized_weights(model):
        raise InputError("the weights of this model are quantized already; start from the original ones")
    policy = policy_of(model, form) if policy is None else policy
    check_policy(model, policy)
    done = 0

    def place(name: str, quantized: QuantizedWeight) -> None:
        nonlocal done
        assign(model, name, quantized)
        done += 1
        if progress is not None:
            progress(done, len(policy))

    calibrated = {
        name: wanted for name, wanted in policy.items() if calibration and wanted in CALIBRATED and name not in _TOKENS
    }
    for name, wanted in policy.items():
        if name not in calibrated:
            place(name, quantize_weight(model.get_parameter(name), wanted, dtype=model.dtype))
    if calibration and calibrated:
        calibrate_blocks(model, calibrated, calibration, place)
