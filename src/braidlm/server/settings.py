"""What the server allows."""

from dataclasses import dataclass

from ..engine import AdapterKey
from ..errors import InputError
from ..text.tool_calls import AUTO, check_name


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits of a server, and whom it serves.

    name: what the model is called. keys: who may use it; without any, everybody who can reach it may. body: bytes of
    a request; None for what the model's context can hold. connections: how many there may be at once. arriving:
    seconds in which a request must come as a whole. answer: tokens of an answer that asks for no
    number. rate: requests a minute and client; 0 allows any. origins: web pages of other servers that may ask.
    hosts: names by which it may be called; without any, every name will do. log_prompts: whether the log tells what
    is asked. replicas: copies of the model. tool_format: how the model writes tool calls, "auto" if its template
    tells. adapters, initials: names of what is loaded beside the model. share_prefix_cache: whether what is kept of one
    key's texts serves the others too, which usage and time then tell.
    """

    name: str
    keys: tuple[str, ...] = ()
    body: int | None = None
    connections: int = 512
    arriving: int = 30
    answer: int = 2048
    rate: int = 0
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    log_prompts: bool = False
    replicas: int = 1
    tool_format: str = AUTO
    adapters: tuple[str, ...] = ()
    initials: tuple[str, ...] = ()
    share_prefix_cache: bool = False

    def __post_init__(self) -> None:
        least = {"body": 1, "connections": 1, "arriving": 1, "answer": 1, "rate": 0, "replicas": 1}
        for name, bound in least.items():
            given = getattr(self, name)
            if given is not None and given < bound:
                raise InputError(f"{name} is {given}, but must be at least {bound}")
        check_name(self.tool_format)
        if not all(key.isascii() and key.isprintable() and " " not in key and key for key in self.keys):
            raise InputError("an API key must be of printable ASCII characters without spaces")
        beside = [*self.adapters, *self.initials]
        for name in beside:
            if not name or ":" in name or beside.count(name) > 1:
                raise InputError(
                    f"{name!r} cannot be the name of an adapter or initial state: it must be the only one of its name, "
                    "and have no colon"
                )

    @property
    def models(self) -> dict[str, AdapterKey]:
        """What clients may name: the model, "model:adapter", "model:state" and "model:adapter:state"."""
        found: dict[str, AdapterKey] = {}
        for adapter in (None, *self.adapters):
            for initial in (None, *self.initials):
                found[":".join(filter(None, (self.name, adapter, initial)))] = (adapter, initial)
        return found

    def owner(self, client: str) -> str:
        """What the names of a client's sessions begin with: who has another key sees none of them."""
        return f"{client}." if self.keys else ""

    def share(self, client: str, user: str | None) -> str:
        """Whose equal share of the engine a request takes: that of a client's user, where clients tell users apart."""
        return f"{client} {user or ''}"

    def cache_salt(self, client: str) -> str:
        """Whose texts a client's prompts may be found to begin like: those of the same key, if no others are shared."""
        return client if self.keys and not self.share_prefix_cache else ""
