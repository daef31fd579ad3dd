"""Adapter of lm-eval (EleutherAI's language model evaluation harness): its models `braid` are those of braidlm.

Importing this module registers it; `braid lm-eval` does, and passes everything on to lm-eval's own command line. Its
results are those of lm-eval's `hf` within rounding, from fewer tokens: what requests begin with in common is read once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from ..api.language_model import LanguageModel
from ..api.loading import load
from ..errors import InputError, LengthWarning, warn
from ..generation.bounds import check_length
from ..generation.sampling import Sampling
from ..model import footprint
from ..spec import is_whole
from ..state.sequence import Precision
from ..system.progress_bar import shown
from ..system.suggest import did_you_mean
from ..text.tokenizer import Tokenizer
from .completions import complete
from .continuations import Continuation, score_continuations
from .reader import Reader

# As in `hf`, for models that declare no length.
_LENGTH = 2048
_NEW_TOKENS = 256
# Sequences of a pass, and bytes of their states, where the batch size is left to us.
_ROWS, _STATES = 64, 1 << 30
# Generation options that are passed on; lm-eval's own are taken out before.
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
# Arguments of loading.
_MODEL = ("dtype", "device", "ops", "allow_pickle", "quantize")


@register_model("braid")
class BraidLM(TemplateLM):  # type: ignore[misc]  # lm-eval's classes are not checked
    """Model of braidlm as lm-eval asks for it; `computed` counts the tokens that were run."""

    def __init__(
        self,
        pretrained: str | LanguageModel,
        *,
        max_length: int | None = None,
        max_gen_toks: int = _NEW_TOKENS,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        prefix_token_id: int | None = None,
        add_bos_token: bool | None = None,
        think_end_token: str | None = None,
        kv_dtype: str | None = None,
        **loading: Any,
    ) -> None:
        """Loads `pretrained` by its name, or takes a loaded model.

        `max_length` is the maximum number of tokens of a text, by default what the model declares; longer ones are cut
        on the left, which a warning says. `batch_size` is the maximum number of sequences in a pass: 1 (lm-eval's
        default) and "auto" leave it to the memory that their states take, at most `max_batch_size`. `prefix_token_id`
        stands before texts without a context, by default the start token. `kv_dtype` is how keys and values are
        stored, `loading` are dtype, device (the CPU where there is no CUDA), ops, quantize and allow_pickle of
        `braidlm.load`.
        """
        super().__init__()
        unknown = sorted(set(loading) - set(_MODEL))
        if unknown:
            known = (*(type(self).__init__.__kwdefaults__ or ()), *_MODEL)
            there = did_you_mean(unknown[0], known) or f"; there are {', '.join(known)}"
            raise InputError(f"--model_args of braid have no {unknown[0]!r}{there}")
        _require_from_one("max_length", max_length)
        _require_from_one("max_batch_size", max_batch_size)
        self._rows = _rows_of(batch_size)
        self._most_rows = max_batch_size or _ROWS
        if str(loading.get("device")).startswith("cuda") and not torch.cuda.is_available():
            loading["device"] = "cpu"  # lm-eval's command line says cuda:0 where nothing is asked for
        self.model = pretrained if isinstance(pretrained, LanguageModel) else load(pretrained, **loading)
        self.name = type(self.model).__name__ if isinstance(pretrained, LanguageModel) else str(pretrained)
        if self.model.tokenizer is None:
            raise InputError(f"{self.name} has no tokenizer, but lm-eval asks for texts")
        self.tokenizer: Tokenizer = self.model.tokenizer
        limit = self.model.spec.max_positions
        self.max_length = max_length or limit or _LENGTH
        check_length(self.max_length, limit)
        self.max_gen_toks = max_gen_toks
        _require_id(prefix_token_id, self.model.spec.vocab)
        self._prefix_token_id = prefix_token_id
        self._add_bos_token = add_bos_token
        self._think_end_token = think_end_token
        self._kv_dtype = kv_dtype
        self._reader = Reader(self.model, kv_dtype)
        self._completed = 0

    @property
    def computed(self) -> int:
        """Number of tokens that were run so far."""
        return self._reader.computed + self._completed

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text; `InputError` if there is none."""
        if not self._ends:
            raise InputError(f"{self.name} has no end token; give prefix_token_id in --model_args")
        return self._ends[0]

    @property
    def _ends(self) -> tuple[int, ...]:
        return (*self.tokenizer.eos_ids, *self.model.origin.ends)

    @property
    def prefix_token_id(self) -> int:
        """The id before a text without a context."""
        if self._prefix_token_id is not None:
            return self._prefix_token_id
        return self.eot_token_id if self.tokenizer.bos_id is None else self.tokenizer.bos_id

    @property
    def tokenizer_name(self) -> str:
        """Name under which lm-eval keeps requests that were rendered with this tokenizer."""
        return self.name.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text; the start token is added where the tokenizer does and the text has none."""
        around = add_special_tokens if add_special_tokens is not None else self._add_bos_token
        if add_special_tokens is None and string.startswith(self._text_of(self.prefix_token_id)):
            around = False
        return self.tokenizer.encode(string, add_bos=True if around is None else around)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Text of a chat, ready for the answer, or open at the end of its last message."""
        if add_generation_prompt:
            return self.tokenizer.render(chat_history)
        text, last = self.tokenizer.render(chat_history, add_generation_prompt=False), chat_history[-1]["content"]
        end = text.rfind(last.strip())
        if end < 0:
            raise InputError("the chat template does not show the last message, so that it cannot be gone on with")
        return text[: end + len(last.strip())]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The model's chat template; None where none is asked for, `InputError` where there is none."""
        if not chat_template:
            return None
        if isinstance(chat_template, str):
            raise InputError(f"--apply_chat_template has the name {chat_template!r}, but takes none with braid")
        if self.tokenizer.chat_template is None:
            raise InputError(f"{self.name} has no chat template; leave --apply_chat_template away")
        return self.tokenizer.chat_template

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval's results say of the model."""
        network = self.model.network
        return {
            "model_num_parameters": footprint.size(self.model.spec).total,
            "model_dtype": str(network.dtype),
            "model_sha": network.weights.fingerprint(),
        }

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts: in windows of `max_length`, each token in one of them."""
        asked: list[Continuation] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            found = [Continuation(*map(tuple, make_disjoint_window(one))) for one in windows]
            asked += found
            owners += [number] * len(found)
        sums = [0.0] * len(requests)
        for number, (value, _) in zip(owners, self._scored(asked, disable_tqdm), strict=True):
            sums[number] += value
        for request, value in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, value)
        return sums

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        asked = [Continuation(tuple(context), tuple(ids)) for _texts, context, ids in requests]
        found = self._scored(asked, disable_tqdm)
        for (texts, *_ids), answer in zip(requests, found, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return found

    def _scored(self, asked: Sequence[Continuation], silent: bool) -> list[tuple[float, bool]]:
        room = self.max_length + 1
        kept = [_fitting(one, room) for one in asked]
        _tell_cut(sum(one is not other for one, other in zip(asked, kept, strict=True)), len(asked), self.max_length)
        rows = self._rows or self._affordable_rows(max((len(one.input) for one in kept), default=1))
        with shown("log-likelihoods", False if silent else None) as step:
            scores = score_continuations(self._reader, kept, rows, step)
        return [(one.log_likelihood, one.greedy) for one in scores]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Continuations of prompts up to a stop text or the end token, greedy unless a task samples."""
        prompts: list[list[int]] = []
        samplings: list[Sampling] = []
        untils: list[list[str]] = []
        cut = 0
        end = self._text_of(self._ends[0]) if self._ends else None
        for number, request in enumerate(requests):
            prompt, options = request.args
            wanted = dict(normalize_gen_kwargs(options, self.max_gen_toks))
            until = handle_stop_sequences(wanted.pop("until"), eos=end)
            room = self._room_of_prompts(wanted["max_gen_toks"])
            ids = self.tok_encode(prompt)
            cut += len(ids) > room
            prompts.append(ids[-room:])
            samplings.append(_sampling(wanted, until, number))
            untils.append(until)
        _tell_cut(cut, len(requests), self.max_length)
        texts = self._completed_texts(prompts, samplings, disable_tqdm)
        made = [
            str(postprocess_generated_text(text, until, self._think_end_token))
            for text, until in zip(texts, untils, strict=True)
        ]
        for request, text in zip(requests, made, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return made

    def _room_of_prompts(self, new_tokens: int) -> int:
        """Number of tokens that a prompt may have before so many new ones; `InputError` if there is none."""
        if new_tokens >= self.max_length:
            raise InputError(
                f"a task generates up to {new_tokens} tokens, but texts have at most {self.max_length}; lower "
                "max_gen_toks in --gen_kwargs, or give a greater max_length in --model_args"
            )
        return self.max_length - new_tokens

    def _completed_texts(self, prompts: list[list[int]], samplings: list[Sampling], silent: bool) -> list[str]:
        longest = max((len(p) + s.max_tokens for p, s in zip(prompts, samplings, strict=True)), default=1)
        with shown("generating", False if silent else None) as step:
            found = complete(
                self.model,
                prompts,
                samplings,
                parallel=self._rows or self._affordable_rows(longest),
                kv_dtype=self._kv_dtype,
                progress=step,
            )
        self._completed += found.computed
        return found.texts

    def _text_of(self, token: int) -> str:
        return self.tokenizer.decode([token], skip_special=False)

    @property
    def _precision(self) -> Precision:
        return Precision.of(self.model.network.dtype, self._kv_dtype)

    def _affordable_rows(self, length: int) -> int:
        """Number of sequences of a length whose states fit the memory for them."""
        precision = self._precision
        each = self.model.spec.state_bytes(length, dtype=precision.name, kv_dtype=precision.kv)
        return max(1, min(self._most_rows, _STATES // max(1, each)))


def _require_from_one(name: str, value: int | None) -> None:
    if value is not None and (not is_whole(value) or value < 1):
        raise InputError(f"{name} is {value!r}, but must be a whole number from 1")


def _require_id(token: int | None, vocab: int) -> None:
    if token is not None and not (is_whole(token) and 0 <= token < vocab):
        raise InputError(f"prefix_token_id is {token!r}, but must be a token id from 0 to {vocab - 1}")


def _rows_of(batch_size: int | str | None) -> int | None:
    """Maximum number of sequences in a pass; None where that is left to us."""
    text = str(batch_size)
    if batch_size is None or text == "1" or text.startswith("auto"):
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"batch_size is {batch_size!r}, but must be a whole number from 1, or auto")
    return int(text)


def _fitting(one: Continuation, room: int) -> Continuation:
    """A continuation whose context's beginning is cut off where both have more than `room` tokens."""
    excess = len(one.context) + len(one.ids) - room
    if excess <= 0:
        return one
    if excess >= len(one.context):
        raise InputError(
            f"a continuation has {len(one.ids)} tokens, but texts have at most {room - 1} in all; "
            "give a greater max_length in --model_args"
        )
    return Continuation(one.context[excess:], one.ids)


def _tell_cut(cut: int, total: int, length: int) -> None:
    if cut:
        warn(
            f"{cut} of {total} texts lose their beginning: they have more than the {length} tokens of max_length, what "
            "is generated counted",
            LengthWarning,
        )


def _sampling(options: Mapping[str, Any], until: Sequence[str], number: int) -> Sampling:
    """Sampling of request `number`, greedy unless `do_sample`; `InputError` for options that are not known."""
    unknown = sorted(set(options) - {*_SAMPLING, "do_sample", "max_gen_toks"})
    if unknown:
        raise InputError(
            f"a task generates with {unknown[0]!r}, which braid does not know; there are {', '.join(_SAMPLING)}, "
            "do_sample, max_gen_toks and until"
        )
    given = {name: options[name] for name in _SAMPLING if options.get(name) is not None}
    if not options.get("do_sample"):
        given = {name: value for name, value in given.items() if name == "repetition_penalty"}
    # A seed for each request: the same run gives the same texts, but no two of them go the same way.
    seed = int(given.pop("seed", 0)) + number
    stop = tuple(text for text in until if text)
    return Sampling(max_tokens=options["max_gen_toks"], stop=stop, seed=seed, **given)
