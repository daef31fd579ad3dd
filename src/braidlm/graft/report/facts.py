"""Facts of a graft for its report: settings, what became of each block and why, the stages, the measurements."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import CheckpointError
from ...model import footprint
from ...spec import ModelSpec
from ...spec.json import encode
from ...system.files import read_object
from ..finished import FILE as FINISHED
from ..layout import Candidates
from ..mixers import REPLACERS
from ..options import MixerOptions
from ..prepared import Prepared
from ..recipe import Recipe
from .curves import stage_facts


def facts(prepared: Prepared, replaced: Sequence[int], graft: ModelSpec, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a graft as plain data, from the directories that its stages have left in `run.out`.

    `replaced` are the blocks that have another mixer, `graft` is the spec of the result, `measured` what `measure`
    found.
    """
    recipe, donor, found = prepared.recipe, prepared.language.spec, prepared.found
    out = Path(recipe.run.out)
    aligned, probed = _result(out / "align"), _result(out / "probe")
    stages = [stage_facts(name, out / name) for name in ("align", *recipe.phases)]
    return {
        "braidlm": __version__,
        "name": out.name,
        "donor": {"name": _last(recipe.donor), "digest": prepared.donor_digest, **_model(donor)},
        "graft": _model(graft),
        "recipe": _every_setting(recipe),
        "initial": _initial(found, replaced),
        "blocks": _blocks(found, donor, replaced, aligned, probed),
        "all_replaced": probed.get("losses", {}).get("all"),
        "stages": [stage for stage in stages if stage is not None],
        "measured": measured,
    }


def _last(donor: str) -> str:
    """Name of a donor: of a path on this computer, which says nothing elsewhere, its last part."""
    return Path(donor).name if Path(donor).is_absolute() else donor


def _model(spec: ModelSpec) -> dict[str, Any]:
    count = footprint.size(spec)
    return {
        "parameters": count.total, "blocks": len(spec.blocks), "width": spec.width, "vocab": spec.vocab,
        "max_positions": spec.max_positions, "meta_tokens": spec.meta_tokens,
    }  # fmt: skip


def _every_setting(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe, also those at their defaults; a mixer given as a spec has its kind."""
    data = asdict(recipe)
    layout = recipe.layout
    options = [(data["layout"], layout.mixer), *zip(data["layout"]["rules"], (rule.mixer for rule in layout.rules))]
    for place, mixer in options:
        if mixer is not None and mixer.spec is not None:
            place["mixer"]["spec"] = encode(mixer.spec)
    return data


def _initial(found: Candidates, replaced: Collection[int]) -> dict[str, str]:
    """Sentence on the initial values of each kind of mixer that is there."""
    kinds = dict.fromkeys(found.options[index].kind for index in sorted(replaced))
    return {kind: REPLACERS[kind].INITIAL if kind in REPLACERS else "as published for its kind" for kind in kinds}


def _result(directory: Path) -> dict[str, Any]:
    """What came out of a stage; nothing if it has not run."""
    if not (directory / FINISHED).exists():
        return {}
    result = read_object(directory / FINISHED, CheckpointError).get("result")
    if not isinstance(result, dict):
        raise CheckpointError(f"{directory / FINISHED} is damaged; remove {directory} to run the stage again")
    return result


def _blocks(
    found: Candidates,
    donor: ModelSpec,
    replaced: Collection[int],
    aligned: Mapping[str, Any],
    probed: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """What became of each block, why, and what was measured of it."""
    errors, losses, worth = aligned.get("errors", {}), probed.get("losses", {}), probed.get("worth", {})
    return [
        {
            "block": index,
            "donor": type(block.mixer).__name__,
            "candidate": mixer_in_words(found.options[index]) if index in found.options else None,
            "replaced": index in replaced,
            "why": _why(index, found, worth),
            "error": errors.get(str(index)),
            "lost": losses.get(f"replaced {index}"),
            "kept_alone": losses.get(f"kept {index}"),
            "worth": worth.get(str(index)),
        }
        for index, block in enumerate(donor.blocks)
    ]


def mixer_in_words(options: MixerOptions) -> str:
    """Mixer of a recipe in words: "window of 256 beside mamba2"."""
    shown = "" if options.window is None else f"window of {options.window}"
    shown += f" with {options.sink_tokens} sink tokens" if options.sink_tokens else ""
    if options.kind == "window":
        return shown
    if options.kind == "parallel":
        return f"{shown} beside {options.ssm or 'mamba2'}"
    return type(options.spec).__name__ if options.kind == "spec" else options.kind


def _why(index: int, found: Candidates, worth: Mapping[str, float]) -> str:
    """Who has decided on a block. The probe's rank 1 is the block whose replacement loses most."""
    if index in found.kept or index in found.replaced:
        return "by a rule"
    if index not in found.mixers:
        return "not in the layout"
    if not found.needs_probe:
        return "as all without a rule"
    ranked = sorted(found.open, key=lambda block: (-worth.get(str(block), 0.0), block))
    return f"by the probe, rank {ranked.index(index) + 1} of {len(ranked)}"
