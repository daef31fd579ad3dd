"""Fields of request bodies: what is known, what is accepted without effect, what is refused and why.

A field that is null counts as one that was left out. No field is ignored in silence: one that is not known is called
unknown, with the nearest name that is, and one that the OpenAI API has and this server does not is refused in a
sentence of its own, unless its value asks for nothing.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from ..system.suggest import near

# Types of the errors that are raised here; see `server.errors`.
UNKNOWN, UNSERVED, TOO_MANY = "unknown_field", "unserved_field", "too_many"


# Entries of a field that says nothing else (see `Body.most`).
_MOST = 1024


class Unserved(NamedTuple):
    """A field of the OpenAI API that is not served: why, and the values that ask for nothing."""

    why: str
    nothing: tuple[Any, ...] = ()


class Body(BaseModel):
    """Body of a request, or an object in one: no fields but the declared ones, no numbers written as texts.

    `most` are numbers of entries that fields may have.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    unserved: ClassVar[Mapping[str, Unserved]] = {}
    most: ClassVar[Mapping[str, int]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        given = {key: value for key, value in data.items() if value is not None}
        for key, value in given.items():
            if key not in known:
                cls._require_nothing(key, value, known)
            elif _length(value) > cls.most.get(key, _MOST):
                raise _error(TOO_MANY, key, f"there are {len(value)}, but may be at most {cls.most.get(key, _MOST)}")
        return {key: value for key, value in given.items() if key in known}

    @classmethod
    def _require_nothing(cls, key: str, value: Any, known: set[str]) -> None:
        """Refuses a field that is not declared, unless it is one whose value asks for nothing."""
        refused = cls.unserved.get(key)
        if refused is None:
            raise _error(UNKNOWN, key, near(key, known | set(cls.unserved)))
        if value not in refused.nothing:
            raise _error(UNSERVED, key, refused.why)


def _length(value: Any) -> int:
    """Number of entries of a list or object, before any of them is looked at; token ids are bounded as a prompt is."""
    if isinstance(value, list) and value and isinstance(value[0], int):
        return 0
    return len(value) if isinstance(value, (list, dict)) else 0


def unserved(sentence: str) -> PydanticCustomError:
    """The error of a value that has a meaning, but is not served."""
    return _error(UNSERVED, None, sentence)


def _error(kind: Any, field: str | None, sentence: str) -> PydanticCustomError:
    if field is not None:  # which may be no valid Unicode
        field = field.encode("utf-8", "backslashreplace").decode()
    return PydanticCustomError(kind, "{sentence}", {"field": field, "sentence": sentence})
