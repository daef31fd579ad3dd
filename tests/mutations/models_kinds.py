"""Kinds of files that hold a model: GGUF, safetensors, config.json, the index of several files, adapters."""

import json
import struct
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import braidlm
from braidlm.adapters import Lora, attach, save_adapter
from braidlm.checkpoints.gguf.header import _Cursor
from braidlm.checkpoints.gguf_export import export_gguf

from . import small
from .differences import differences
from .kind import Kind, digest, never, plain_values


def _build_gguf(place: Path) -> None:
    made = small.model()
    export_gguf(made.network, place / "model.gguf", tokenizer=made.tokenizer)


def _gguf_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """The format has no checksum: bits of weights and of values in the metadata (not of keys) may be any.

    A number may be of another width.
    """
    return changed is not None and _skeleton(intact) == _skeleton(changed)


def _skeleton(raw: bytes) -> object:
    """What stands in a GGUF file beside values and weights: counts, keys, types, the table."""
    at = _Cursor(memoryview(raw), 8)  # type: ignore[arg-type]
    try:
        tensors, values = at.number("<Q"), at.number("<Q")
        if tensors > 10_000 or values > 10_000:
            return None
        keys = []
        for _ in range(values):
            key = at.string()
            kind = at.skip_value(key).kind.name
            keys.append((key, "number" if "INT" in kind or "FLOAT" in kind else kind))
        begin = at.position
        for _ in range(tensors):
            at.string()
            at.skip(at.number("<I") * 8 + 12)
    except Exception:
        return object()
    return raw[:8], keys, raw[begin : at.position]


def _build_directory(place: Path) -> None:
    small.model().save(place / "model")


def _safetensors_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """The format has no checksum: bits of weights may be any.

    A header may call a tensor one of another dtype of the same width, and two of one shape may stand in turn.
    """
    if changed is None:
        return False
    size = 8 + struct.unpack("<Q", intact[:8])[0]
    if len(changed) != len(intact) or changed[:8] != intact[:8]:
        return False
    found = differences(intact[8:size], changed[8:size])
    return found is not None and all(
        (what == "value" and path[-1] == "dtype") or "data_offsets" in path for path, what in found
    )


# Keys that published configs may leave out, since the reference fills them in.
_OPTIONAL = set(
    """architectures attention_bias attention_dropout bos_token_id eos_token_id pad_token_id hidden_act
    initializer_range tie_word_embeddings torch_dtype dtype transformers_version use_cache rope_scaling rope_theta
    position_embedding_type embedding_multiplier residual_multiplier logits_scaling attention_multiplier
    mamba_chunk_size mamba_conv_bias mamba_proj_bias mamba_d_conv mamba_d_head mamba_d_state mamba_expand
    mamba_n_groups mamba_n_heads normalization_function num_key_value_heads rms_norm_eps max_position_embeddings
    time_step_limit time_step_max time_step_min num_experts_per_tok num_local_experts output_router_logits
    router_aux_loss_coef shared_intermediate_size layer_types layers_block_type rope_type rope_parameters""".split()
)


def _config_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """Values may be others of their type, and keys that the reference fills in may be missing."""
    return plain_values(intact, changed, optional=_OPTIONAL)


def _build_index(place: Path) -> None:
    _build_directory(place)
    whole = place / "model" / "model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    files = {name: f"model-{1 + (i % 2):05d}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name].clone() for name in names if files[name] == file}, whole.with_name(file))
    whole.unlink()
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    small.write_json(whole.with_name("model.safetensors.index.json"), index)


def _build_adapter(place: Path) -> None:
    small.model().save(place / "model")
    base = braidlm.load(place / "model", ops="reference")
    adapters = attach(base.network, Lora(rank=2, alpha=4.0), 1, base.origin.format)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.1)
    save_adapter(adapters, place / "adapter")
    config = json.loads((place / "adapter" / "adapter_config.json").read_text())
    config["rank_pattern"] |= {r"no\.such": 3}
    config["alpha_pattern"] |= {"none.*": 4.0}
    small.write_json(place / "adapter" / "adapter_config.json", config)


def _use_adapter(place: Path) -> str:
    base = braidlm.load(place / "model", ops="reference")
    base.load_adapter("one", place / "adapter")
    with torch.inference_mode():
        return digest(*base.using("one").forward([[1, 2, 3, 4, 5], [9, 8]]))


def _adapter_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """Bits of weights may be any; values of the config others of their type, its patterns and targets too."""
    if name.endswith(".safetensors"):
        return _safetensors_lawful(name, intact, changed)
    tables = ("rank_pattern", "alpha_pattern", "target_modules")
    optional = {*tables, "use_rslora", "use_dora", "lora_dropout", "target_parameters"}
    return plain_values(intact, changed, tables=tables, optional=optional)


KINDS = (
    Kind("gguf", _build_gguf, lambda place: small.use(place / "model.gguf"), ("model.gguf",), _gguf_lawful),
    Kind(
        "safetensors",
        _build_directory,
        lambda place: small.use(place / "model"),
        ("model/model.safetensors",),
        _safetensors_lawful,
    ),
    Kind("config", _build_directory, lambda place: small.use(place / "model"), ("model/config.json",), _config_lawful),
    Kind("index", _build_index, lambda place: small.use(place / "model"), ("model/*.index.json",), never),
    Kind("adapter", _build_adapter, _use_adapter, ("adapter/*",), _adapter_lawful),
)
