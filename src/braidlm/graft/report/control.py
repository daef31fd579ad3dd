"""Control of a graft: the donor with attention to the last tokens alone in the blocks that the graft replaces.

It costs nothing to make and is not trained: a graft that is no better than this has learned nothing worth its training.
"""

from collections.abc import Collection
from dataclasses import replace

from ...api.language_model import LanguageModel
from ...errors import SpecError
from ...spec import Mixer
from ..compose import compose
from ..layout import Candidates, plain_attention


def window_control(
    donor: LanguageModel, found: Candidates, replaced: Collection[int], window: int
) -> LanguageModel | None:
    """The donor, over its own weights, with windows in the blocks that have attention and are replaced.

    A window is that of the block's new mixer, with its sink tokens, or else `window` tokens. None where the donor's
    blocks share keys and values in a way that windows do not allow.
    """

    def windowed(index: int, mixer: Mixer) -> Mixer:
        attention = plain_attention(mixer)
        if attention is None or index not in replaced:
            return mixer
        options = found.options[index]
        asked, sinks = (window, 0) if options.window is None else (options.window, options.sink_tokens)
        return replace(attention, window=min(asked, attention.window or asked), sink_tokens=sinks)

    blocks = (replace(block, mixer=windowed(index, block.mixer)) for index, block in enumerate(donor.spec.blocks))
    try:
        spec = replace(donor.spec, blocks=tuple(blocks))
    except SpecError:
        return None
    return LanguageModel(compose(donor.network, {}, spec), donor.tokenizer, donor.origin, ops=donor.ops)
