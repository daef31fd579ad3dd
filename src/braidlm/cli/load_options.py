"""Options of loading a model, which most commands share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from ..system.choices import OPS
from ..system.collector import without_collector
from ..system.settings import Setting, check_settings

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Options of loading a model, each as its setting describes it."""

    dtype: Annotated[
        str, Setting("Dtype of weights and activations: auto (as stored), float32, bfloat16 or float64.")
    ] = "auto"
    quantize: Annotated[
        str | None,
        Setting("Dtype of quantized weights: int4, int8, fp8, or keep (as the file has them).", unset="none"),
    ] = None
    kv_dtype: Annotated[
        str | None,
        Setting("Dtype of the KV cache: float32, bfloat16, float16, fp8 or int8.", unset="that of activations"),
    ] = None
    device: Annotated[str, Setting("Device that computes: cpu, or a torch device such as cuda.")] = "cpu"
    ops: Annotated[str, Setting(f"Implementation of the operations: {', '.join(OPS)}.")] = "auto"
    threads: Annotated[int | None, Setting("Number of CPU threads.", least=1, unset="all")] = None
    deterministic: Annotated[
        bool, Setting("Bit-equal results in every batch, cut and thread count; prompts run slower.")
    ] = False
    allow_pickle: Annotated[bool, Setting("Accept pickled weights (read as tensors only).")] = False

    def __post_init__(self) -> None:
        check_settings(self)

    def load(self, name: str) -> "LanguageModel":
        """The model of a name (see `loading.load`), on the number of threads that is asked for."""
        with without_collector():
            from ..api.loading import load

            set_threads(self.threads)
            return load(
                name,
                self.dtype,
                self.device,
                self.ops,
                self.allow_pickle,
                quantize=self.quantize,
                deterministic=self.deterministic,
            )

    def check(self, name: str) -> None:
        """Raises the error of `load` that is found before a weight is read."""
        from ..api.loading import check_loadable

        check_loadable(name, self.dtype, self.ops, self.allow_pickle, quantize=self.quantize)


def set_threads(count: int | None) -> None:
    """Limits torch to `count` threads, or where that is None to this process's share of the machine."""
    import torch

    from ..ops.threads import limit_to_share

    limit_to_share()
    if count is not None:
        torch.set_num_threads(count)
