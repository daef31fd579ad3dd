"""Sampling parameters: how tokens are chosen and when to stop. Knows no logits."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from ..errors import InputError
from ..system.settings import Setting, check_settings, is_whole, require_value

_LAST_SEED = 2**63
_LAST_ID = _MOST = 2**31


def _is_temperature(value: float) -> bool:
    return value == 0 or 0.001 <= value <= 1000


def _are_biases(value: Mapping[int, float]) -> bool:
    return all(0 <= token <= _LAST_ID and -100 <= bias <= 100 for token, bias in value.items())


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling parameters of one sequence, each as its setting describes it.

    Penalties and biases change the logits and top_k, top_p and min_p narrow the choice, in the order of these fields.
    `repetition_penalty` divides positive and multiplies negative logits of tokens seen in prompt and answer (Keskar et
    al. 2019); `frequency_penalty` and `presence_penalty` are the OpenAI API's (tokens of the prompt do not count);
    `top_p` is of Holtzman et al. 2020.
    """

    max_tokens: Annotated[int, Setting("Maximum number of generated tokens.", least=1, most=_MOST)] = 256
    temperature: Annotated[
        float,
        Setting(
            "Sampling temperature; 0 takes the most likely token.",
            valid=_is_temperature,
            right="0, or from 0.001 to 1000",
        ),
    ] = 0.0
    repetition_penalty: Annotated[
        float,
        Setting("Factor that makes tokens of prompt and answer less likely; 1 for none.", least=1e-6, most=1e6),
    ] = 1.0
    frequency_penalty: Annotated[
        float, Setting("Number taken off a token's logit each time that it was generated.", least=-2, most=2)
    ] = 0.0
    presence_penalty: Annotated[
        float, Setting("Number taken off the logit of each token that was generated, once.", least=-2, most=2)
    ] = 0.0
    logit_bias: Annotated[
        Mapping[int, float],
        Setting(
            "Numbers added to logits, by token id: -100 in effect bans a token, 100 forces it.",
            valid=_are_biases,
            right="a mapping of token ids to numbers from -100 to 100",
        ),
    ] = field(default_factory=dict, hash=False)
    top_k: Annotated[int, Setting("Number of most likely tokens to choose from; 0 for all.", least=0, most=_MOST)] = 0
    top_p: Annotated[
        float,
        Setting(
            "Probability of the smallest set of most likely tokens to choose from.",
            least=1e-9,
            most=1,
            right="above 0 and at most 1",
        ),
    ] = 1.0
    min_p: Annotated[
        float, Setting("Least probability of a token, as a share of the most likely one's.", least=0, most=1)
    ] = 0.0
    stop: Annotated[
        tuple[str, ...],
        Setting(
            "Text that ends the output and is not part of it.",
            valid=all,
            right="a list of texts that are not empty",
        ),
    ] = ()
    seed: Annotated[
        int | None,
        Setting(
            "Seed of the choice: the same seed gives the same tokens.",
            least=0,
            most=_LAST_SEED,
            right="a whole number from 0 to 2^63, or none",
            unset="random",
        ),
    ] = None
    top_logprobs: Annotated[
        int, Setting("Number of most likely tokens that are told with each token.", least=0, most=1000)
    ] = 0

    def __post_init__(self) -> None:
        check_settings(self)

    def with_seed(self, seed: int) -> "Sampling":
        """Copy with another seed."""
        return replace(self, seed=seed % _LAST_SEED)


def check_seed(seed: object) -> None:
    """`InputError` unless every generator can begin with `seed`."""
    ok = is_whole(seed) and 0 <= seed <= _LAST_SEED  # type: ignore[operator]
    require_value(ok, "seed", seed, "a whole number from 0 to 2^63")


def check_sampling(sampling: Sampling, vocab: int) -> None:
    """`InputError` unless a model with `vocab` token ids can sample so."""
    wrong = next((token for token in sampling.logit_bias if token >= vocab), None)
    if wrong is not None:
        raise InputError(f"logit_bias names the token id {wrong}, but this model has the ids 0 to {vocab - 1}")
