"""Settings of the server: what it allows, and whom."""

from dataclasses import dataclass

from ..engine import AdapterKey
from ..errors import InputError
from ..text.tool_calls import AUTO, check_name


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server.

    name: name of the model in the API. api_keys: keys that may use the server; without any, everybody who can reach
    it may. max_body: maximum number of bytes of a request's body; None for what the model's context can hold.
    max_connections: maximum number of open connections. request_timeout: seconds in which a request must come as a
    whole. max_tokens: maximum number of generated tokens of a chat request that gives none. rate_limit: requests a
    minute for each client; 0 for no limit. cors_origins: origins of other web pages whose requests are answered.
    allowed_hosts: values of the Host header that are answered; without any, all are. log_prompts: whether the log has
    the prompts. replicas: number of processes that serve the model. tool_format: format of the model's tool calls,
    "auto" if its template tells. adapters, initial_states: names of what is loaded beside the model.
    share_prefix_cache: whether snapshots of one key's prompts serve the other keys too, which usage and time then tell.
    """

    name: str
    api_keys: tuple[str, ...] = ()
    max_body: int | None = None
    max_connections: int = 512
    request_timeout: int = 30
    max_tokens: int = 2048
    rate_limit: int = 0
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    log_prompts: bool = False
    replicas: int = 1
    tool_format: str = AUTO
    adapters: tuple[str, ...] = ()
    initial_states: tuple[str, ...] = ()
    share_prefix_cache: bool = False

    def __post_init__(self) -> None:
        at_least_one = ("max_body", "max_connections", "request_timeout", "max_tokens", "replicas")
        for name, bound in {**dict.fromkeys(at_least_one, 1), "rate_limit": 0}.items():
            given = getattr(self, name)
            if given is not None and given < bound:
                raise InputError(f"{name} is {given}, but must be at least {bound}")
        check_name(self.tool_format)
        if not all(key.isascii() and key.isprintable() and " " not in key and key for key in self.api_keys):
            raise InputError("an API key must be of printable ASCII characters without spaces")
        beside = [*self.adapters, *self.initial_states]
        for name in beside:
            if not name or ":" in name or beside.count(name) > 1:
                raise InputError(
                    f"{name!r} cannot be the name of an adapter or initial state: it must be the only one of its name, "
                    "and have no colon"
                )

    @property
    def models(self) -> dict[str, AdapterKey]:
        """Names in the API with their adapter and initial state.

        They are "model", "model:adapter", "model:state" and "model:adapter:state".
        """
        found: dict[str, AdapterKey] = {}
        for adapter in (None, *self.adapters):
            for initial in (None, *self.initial_states):
                found[":".join(filter(None, (self.name, adapter, initial)))] = (adapter, initial)
        return found

    def owner(self, client: str) -> str:
        """Prefix of the names of a client's sessions: who has another key sees none of them."""
        return f"{client}." if self.api_keys else ""

    def share(self, client: str, user: str | None) -> str:
        """Key by which the queue is fair: the client, and its user where the request names one."""
        return f"{client} {user or ''}"

    def cache_salt(self, client: str) -> str:
        """Salt of a client's prompts in the prefix cache: one for each key, or one for all if the cache is shared."""
        return client if self.api_keys and not self.share_prefix_cache else ""
