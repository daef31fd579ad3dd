"""Sampling parameters: how tokens are chosen and when to stop. Knows no logits."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import InputError

_LAST_SEED = 2**63
_LAST_ID = 2**31


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling parameters of one sequence.

    `temperature` 0 takes the most likely token. The others change the logits or narrow the choice, in this order:
    `repetition_penalty` (divides positive and multiplies negative logits of tokens seen in prompt and answer, Keskar
    et al. 2019); `frequency_penalty` times how often a token was generated, and `presence_penalty` once for each token
    that was, subtracted from its logit (the OpenAI API's definition: tokens of the prompt do not count); `logit_bias`,
    added to the logits of the token ids that it names (-100 in effect bans a token, 100 forces it); `top_k` most
    likely, smallest set with probability `top_p` (Holtzman et al. 2020), at least `min_p` times the most likely one's
    probability. `stop` are texts that end the output and are not part of it. `top_logprobs` is how many of the most
    likely tokens are told with each.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        checks = {
            "max_tokens": (_whole(self.max_tokens, 1), "a whole number from 1"),
            "temperature": (_warmth(self.temperature), "0, or from 0.001 to 1000"),
            "top_p": (_within(self.top_p, 1e-9, 1), "above 0 and at most 1"),
            "top_k": (_whole(self.top_k, 0), "a whole number from 0 (off)"),
            "min_p": (_within(self.min_p, 0, 1), "from 0 to 1"),
            "repetition_penalty": (_within(self.repetition_penalty, 1e-6, 1e6), "from 1e-6 to 1e6"),
            "presence_penalty": (_within(self.presence_penalty, -2, 2), "from -2 to 2"),
            "frequency_penalty": (_within(self.frequency_penalty, -2, 2), "from -2 to 2"),
            "logit_bias": (_biases(self.logit_bias), "a mapping of token ids to numbers from -100 to 100"),
            "stop": (all(isinstance(text, str) and text for text in self.stop), "texts that are not empty"),
            "top_logprobs": (_whole(self.top_logprobs, 0, 1000), "a whole number from 0 to 1000"),
            "seed": (self.seed is None or _whole(self.seed, 0, _LAST_SEED), "a whole number from 0 to 2^63, or none"),
        }
        for name, (ok, right) in checks.items():
            if not ok:
                raise InputError(f"{name} is {getattr(self, name)!r}, but must be {right}")

    def with_seed(self, seed: int) -> "Sampling":
        """These parameters with another seed."""
        return replace(self, seed=seed % _LAST_SEED)


def check_seed(seed: object) -> None:
    """`InputError` unless every generator can begin with `seed`."""
    if not _whole(seed, 0, _LAST_SEED):
        raise InputError(f"seed is {seed!r}, but must be a whole number from 0 to 2^63")


def check_sampling(sampling: Sampling, vocab: int) -> None:
    """`InputError` unless a model with `vocab` token ids can sample so."""
    wrong = next((token for token in sampling.logit_bias if token >= vocab), None)
    if wrong is not None:
        raise InputError(f"logit_bias names the token id {wrong}, but this model has the ids 0 to {vocab - 1}")


def _biases(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(_whole(token, 0, _LAST_ID) and _within(bias, -100, 100) for token, bias in value.items())


def _warmth(value: object) -> bool:
    return _within(value, 0, 0) or _within(value, 0.001, 1000)


def _whole(value: object, least: int, most: int = 2**31) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _within(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
