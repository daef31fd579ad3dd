"""Metadata by which files of adapters and states name the model that they were made for."""

import warnings
from collections.abc import Mapping

from ..errors import CheckpointError
from ..model.model import Model

_SPEC, _BASE = "braidlm_description", "braidlm_base"


def origin_of(model: Model) -> dict[str, str]:
    """Metadata that names a model: digests of its spec and of its weights."""
    return {_SPEC: model.weights.spec_digest(), _BASE: model.weights.base_fingerprint()}


def require_origin(metadata: Mapping[str, str], model: Model, what: str) -> None:
    """`CheckpointError` if a file's metadata names another spec; a warning if only weights differ.

    Files that others wrote name neither.
    """
    if metadata.get(_SPEC, model.weights.spec_digest()) != model.weights.spec_digest():
        raise CheckpointError(f"{what} was made for a model of another description")
    if _BASE in metadata and metadata[_BASE] != model.weights.base_fingerprint():
        warnings.warn(
            f"{what} was made for other weights of this model, or for the same in another format; "
            "its results may differ from those in training",
            stacklevel=4,
        )
