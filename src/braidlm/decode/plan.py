"""From a model to its decode plan."""

from threading import Lock
from weakref import WeakKeyDictionary

from ..model.model import Block, Model
from ..ops.plan import Draft
from .pages import settle

# The last plans of each model, by format of keys and values, and the version of the weights they point at.
_making = Lock()
_made: WeakKeyDictionary[Model, dict[str, tuple[int, Draft]]] = WeakKeyDictionary()


def plan_of(model: Model, kv_format: str) -> Draft:
    """The model's plan; made anew only after its weights have changed."""
    # One at a time: whoever comes second must find the weights where the first one's plan has them.
    with _making:
        version, known = model.weights_version(), _made.setdefault(model, {})
        if kv_format not in known or known[kv_format][0] != version:
            settle(model)
            known[kv_format] = (model.weights_version(), compile_plan(model, kv_format))
        return known[kv_format][1]


def compile_plan(model: Model, kv_format: str) -> Draft:
    """The plan of one token through `model`, with keys and values stored as `kv_format`.

    It points at the model's own weights: it is valid while they are neither replaced nor moved.
    """
    spec = model.spec
    draft = Draft(spec.width, model.dtype, kv_format)
    draft.plan.embed(draft.weight(model.embed.weight), spec.embed_scale, draft.x)
    for index, (block, slots) in enumerate(zip(model.blocks, spec.slots, strict=True)):
        assert isinstance(block, Block)
        draft.begin(index, slots)
        block.draft(draft)
    head = model.embed.weight if model.head is None else model.head.weight
    draft.logits(draft.normed(draft.x, model.norm), head, spec.logit_scale)
    return draft
