"""Policy of quantization: which weights, to which format; and the quantization of a model in memory.

The policy is a table of weights' names and formats; it is saved with a model. Matrices that are read
for every token are in it. What is small and steers a recurrence or a choice is not: convolutions,
routers, the time-step projections of Mamba-1, decays, poles, norms, biases.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..errors import InputError
from ..layers import Layer
from ..model.assign import assign
from ..model.model import Model
from ..ops.linear.quantized import WEIGHT_FORMATS, QuantizedWeight, quantizable
from ..ops.linear.round_to_nearest import quantize_weight
from ..system.progress import ProgressFunction
from .calibrate import calibrate_blocks
from .gptq import CALIBRATED_FORMATS

# The rows of tokens and the scores of tokens lose more by 4 bits than blocks do.
_FORMAT_OF_TOKENS = {"int4": "int8"}
_TOKENS = ("embed.weight", "head.weight")


def check_weight_format(weight_format: str) -> None:
    """Raises `InputError` unless weights can be quantized to `weight_format`."""
    if weight_format not in WEIGHT_FORMATS:
        raise InputError(f"quantize is {weight_format!r}, but must be one of {', '.join(WEIGHT_FORMATS)}")


def policy_of(model: Model, weight_format: str) -> dict[str, str]:
    """The usual policy, formats by weight: every matrix that can be quantized, by name.

    With int4, embedding and head get int8.
    """
    check_weight_format(weight_format)
    found = {}
    for name, shape in _matrices(model):
        wanted = _FORMAT_OF_TOKENS.get(weight_format, weight_format) if name in _TOKENS else weight_format
        if quantizable(shape, wanted):
            found[name] = wanted
    return found


def check_policy(model: Model, policy: Mapping[str, str]) -> None:
    """Raises `InputError` if a policy names what cannot be quantized, or a format that there is not."""
    shapes = dict(_matrices(model))
    for name, weight_format in policy.items():
        if name not in shapes:
            raise InputError(f"the policy names {name!r}, which is no weight of this model that can be quantized")
        if weight_format not in WEIGHT_FORMATS:
            raise InputError(
                f"the policy gives {name} the format {weight_format!r}; the formats are {', '.join(WEIGHT_FORMATS)}"
            )
        if not quantizable(shapes[name], weight_format):
            raise InputError(
                f"the policy gives {name} the format {weight_format}, but its shape is {list(shapes[name])}"
            )


def _matrices(model: Model) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights that a policy may name."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, Layer) and not _is_left_alone(model, name):
            found += [(f"{name}.{part}", tuple(getattr(module, part).shape)) for part in module.QUANTIZABLE]
    return found


def _is_left_alone(model: nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    around = model.get_submodule(owner)
    return isinstance(around, Layer) and leaf in around.UNQUANTIZED


def quantized_weights(model: nn.Module) -> dict[str, QuantizedWeight]:
    """Quantized weights of a model, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedWeight)}


def quantize(
    model: Model,
    weight_format: str,
    policy: Mapping[str, str] | None = None,
    calibration: Sequence[Tensor] | None = None,
    progress: ProgressFunction | None = None,
) -> None:
    """Quantizes the weights of `model` in place, one at a time.

    `policy` (names to formats) takes the place of `policy_of`. `calibration` holds rows of token ids,
    [L] each: int4 and int8 weights of blocks are then quantized so that the blocks' outputs on that text stay
    close (see `calibrate`). `progress(done, total)` is called for each weight.
    """
    model.require_no_adapters("quantized")
    if quantized_weights(model):
        raise InputError("the weights of this model are quantized already; start from the original ones")
    policy = policy_of(model, weight_format) if policy is None else policy
    check_policy(model, policy)
    done = 0

    def assign_quantized(name: str, quantized: QuantizedWeight) -> None:
        nonlocal done
        assign(model, name, quantized)
        done += 1
        if progress is not None:
            progress(done, len(policy))

    calibrated = {
        name: wanted
        for name, wanted in policy.items()
        if calibration and wanted in CALIBRATED_FORMATS and name not in _TOKENS
    }
    for name, wanted in policy.items():
        if name not in calibrated:
            assign_quantized(name, quantize_weight(model.get_parameter(name), wanted, dtype=model.dtype))
    if calibration and calibrated:
        calibrate_blocks(model, calibrated, calibration, assign_quantized)
