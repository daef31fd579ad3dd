"""Trunk: the language model's own tensors in a GGUF file, under llama.cpp's names.

Files hold more than that: vision and audio towers with their projectors, blocks that predict tokens further ahead
(which the number of blocks may count), tables of angles that the metadata implies. Ollama spells one name in another
way.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ...errors import CheckpointError

# Vision tower, projector, audio tower; heads for further tokens.
_TOWERS = ("v.", "mm.", "a.", "mtp.")
_BUFFERS = re.compile(r"blk\.\d+\.attn_rot_embd(\.weight)?")
_BLOCK = re.compile(r"blk\.(\d{1,6})\.(.+)")
_AHEAD = "nextn."
_TIME_STEP = re.compile(r"blk\.\d+\.ssm_dt")
# One number for all blocks, which some tools repeat for each.
_UNIFORM = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")


class Trunk(NamedTuple):
    """Tensors of a file sorted out: `names` maps the model's names to the file's; all others are left out.

    `present` is the number of blocks that have tensors, `blocks` that of the language model.
    """

    names: dict[str, str]
    towers: list[str]
    ahead: list[str]
    buffers: list[str]
    present: int
    blocks: int


def find_trunk(names: Collection[str], predicting: int) -> Trunk:
    """Sorts tensors out; the last `predicting` blocks predict ahead, as do those with tensors of that purpose.

    Raises `CheckpointError` where such blocks are not the last ones.
    """
    towers = [name for name in names if name.startswith(_TOWERS)]
    buffers = [name for name in names if _BUFFERS.fullmatch(name)]
    numbers = {name: int(found[1]) for name in names if (found := _BLOCK.fullmatch(name))}
    present = max(numbers.values(), default=-1) + 1
    marked = {number for name, number in numbers.items() if f".{_AHEAD}" in name}
    blocks = min([present - min(max(predicting, 0), present), *marked])
    if marked and (len(marked) != present - min(marked) or predicting not in (0, len(marked))):
        raise CheckpointError(
            f"blocks {sorted(marked)} predict tokens further ahead, but must be the last {predicting or len(marked)} "
            f"of {present}"
        )
    ahead = [name for name, number in numbers.items() if number >= blocks]
    out = {*towers, *buffers, *ahead}
    own = {_spelling(name, names): name for name in names if name not in out}
    return Trunk(own, towers, ahead, buffers, present, blocks)


def _spelling(name: str, names: Collection[str]) -> str:
    """A tensor's name as llama.cpp spells it: the bias of time steps has no ".bias" in files of Ollama's."""
    whole = f"{name}.bias"
    return whole if _TIME_STEP.fullmatch(name) and whole not in names else name


def trunk_fields(fields: Mapping[str, Any], trunk: Trunk) -> dict[str, Any]:
    """Metadata of the architecture as it is for the language model's blocks alone.

    Raises `CheckpointError` where the number of blocks is not that of the tensors.
    """
    declared = fields.get("block_count")
    if declared is None:
        return dict(fields)
    if declared not in (trunk.present, trunk.blocks):
        raise CheckpointError(f"block_count is {declared!r}, but there are tensors of {trunk.present} blocks")
    return {key: _per_block(key, value, declared, trunk.blocks) for key, value in fields.items()} | {
        "block_count": trunk.blocks
    }


def _per_block(key: str, value: Any, declared: int, blocks: int) -> Any:
    if not isinstance(value, list) or len(value) != declared:
        return value
    own = value[:blocks]
    return own[0] if key in _UNIFORM and own and all(item == own[0] for item in own) else own
