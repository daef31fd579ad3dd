"""Settings of the server: what it allows, and whom."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from ..errors import InputError
from ..system.settings import Setting, check_settings
from ..text.tool_calls import AUTO, NAMES, check_name

if TYPE_CHECKING:
    from ..engine import AdapterKey


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server, as its options and the keys of its file describe them.

    allowed_hosts: values of the Host header that are answered; without any, all are. adapters, initial_states: names
    of what is loaded beside the model.
    """

    name: Annotated[str, Setting("Name of the model in the API.", unset="MODEL's own name")]
    api_keys: Annotated[
        tuple[str, ...],
        Setting(
            "Key that clients must send, also in $BRAIDLM_API_KEYS (commas).",
            name="api_key",
            secret=True,
        ),
    ] = ()
    rate_limit: Annotated[
        int, Setting("Maximum number of requests a minute for each client; 0 for no limit.", least=0)
    ] = 0
    max_tokens: Annotated[
        int, Setting("Maximum number of generated tokens of a chat request that gives none.", least=1)
    ] = 2048
    max_body: Annotated[
        int | None,
        Setting(
            "Maximum size of a request's body in bytes.",
            least=1,
            in_bytes=True,
            unset="what the context can hold, up to 8MiB",
        ),
    ] = None
    max_connections: Annotated[int, Setting("Maximum number of open connections.", least=1)] = 512
    request_timeout: Annotated[
        int, Setting("Seconds until a request must have come as a whole; 408 beyond it.", least=1)
    ] = 30
    cors_origins: Annotated[
        tuple[str, ...],
        Setting("Origin of web pages that may call the server (CORS).", name="cors_origin"),
    ] = ()
    tool_format: Annotated[str, Setting(f"Format of the model's tool calls: {', '.join(NAMES)}.")] = AUTO
    share_prefix_cache: Annotated[bool, Setting("Whether API keys share the prefix cache.")] = False
    log_prompts: Annotated[bool, Setting("Whether prompts are written to the log.")] = False
    replicas: Annotated[
        int, Setting("Number of processes that serve the model (Ray); limits are per replica.", least=1)
    ] = 1
    allowed_hosts: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    initial_states: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        check_name(self.tool_format)
        if not all(key.isascii() and key.isprintable() and " " not in key and key for key in self.api_keys):
            raise InputError("an API key must be of printable ASCII characters without spaces")  # which stays secret
        beside = [*self.adapters, *self.initial_states]
        for name in beside:
            if not name or ":" in name or beside.count(name) > 1:
                raise InputError(
                    f"{name!r} cannot be the name of an adapter or initial state: it must be the only one of its name, "
                    "and have no colon"
                )

    @property
    def models(self) -> "dict[str, AdapterKey]":
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
