"""Decode plans of models, made once for each version of the weights."""

from threading import Lock
from weakref import WeakKeyDictionary

from ..model.model import Block, Model
from ..ops.plan import PlanBuilder
from .pages import move_to_huge_pages

# The last plans of each model, by dtype of keys and values, and the version of the weights they point at.
_making = Lock()
_made: WeakKeyDictionary[Model, dict[str, tuple[int, PlanBuilder]]] = WeakKeyDictionary()


def plan_of(model: Model, kv_dtype: str) -> PlanBuilder:
    """Decode plan of a model, with keys and values stored as `kv_dtype`; made anew after its weights have changed."""
    # One at a time: whoever comes second must find the weights where the first one's plan has them.
    with _making:
        version, known = model.weights.version(), _made.setdefault(model, {})
        if kv_dtype not in known or known[kv_dtype][0] != version:
            move_to_huge_pages(model)
            known[kv_dtype] = (model.weights.version(), compile_plan(model, kv_dtype))
        return known[kv_dtype][1]


def compile_plan(model: Model, kv_dtype: str) -> PlanBuilder:
    """Compiles the plan of one token through `model`, with keys and values stored as `kv_dtype`.

    It points at the model's own weights: it is valid while they are neither replaced nor moved.
    """
    spec = model.spec
    builder = PlanBuilder(spec.width, model.dtype, kv_dtype)
    builder.step("embedding", builder.weight(model.embed.weight), spec.embed_scale, builder.x)
    for index, (block, slots) in enumerate(zip(model.blocks, spec.state_specs, strict=True)):
        assert isinstance(block, Block)
        builder.begin_block(index, slots)
        block.build_step(builder)
    head = model.embed.weight if model.head is None else model.head.weight
    builder.logits(builder.normed(builder.x, model.norm), head, spec.logit_scale)
    return builder
