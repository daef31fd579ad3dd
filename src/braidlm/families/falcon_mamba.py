"""FalconMamba (model_type "falcon_mamba"): Mamba-1 whose dt, B and C pass norms without weights."""

from collections.abc import Mapping
from typing import Any

from ..errors import SpecError
from ..spec import Mamba, ModelSpec
from .base import Family, Gguf, TensorTable, first_mixer
from .config import Config
from .gguf_values import flag
from .mamba1_common import (
    IGNORED,
    gguf_mamba_config,
    gguf_mamba_metadata,
    gguf_mamba_names,
    mamba_names,
    read_mamba,
    write_mamba,
)


def spec(config: Config) -> ModelSpec:
    """Reads a transformers config."""
    eps = config.number("mixer_rms_eps", config.silent("mixer_rms_eps", 1e-6))
    return read_mamba(config, inner_norms=True, inner_norms_learned=False, inner_eps=eps)


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a transformers config."""
    eps = first_mixer(spec, Mamba).inner_eps
    if eps is None:
        raise SpecError("the norms of dt, B and C must have an eps of their own")
    named = {"architectures": ["FalconMambaForCausalLM"], "model_type": "falcon_mamba", "mixer_rms_eps": eps}
    return named | write_mamba(spec)


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    """These files have one eps for all norms, as their readers compute."""
    found = gguf_mamba_config(fields, file)
    return {"model_type": "falcon_mamba", "mixer_rms_eps": found["layer_norm_epsilon"], **found}


FAMILIES = (
    Family(
        name="falcon_mamba",
        model_types=("falcon_mamba",),
        spec=spec,
        config=config,
        names=mamba_names,
        ignored=IGNORED,
        gguf=Gguf(
            arch="mamba",
            matches=lambda fields: flag(fields, "ssm.dt_b_c_rms", False),
            config=_gguf_config,
            names=gguf_mamba_names,
            metadata=gguf_mamba_metadata,
        ),
    ),
)
