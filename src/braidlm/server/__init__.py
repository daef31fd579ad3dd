"""The HTTP server: the OpenAI API, stored sessions, metrics, and a page to talk on."""

from typing import TYPE_CHECKING

from ..system.lazy import lazy_names

if TYPE_CHECKING:
    from .app import create_app
    from .host import ModelHost
    from .run import serve
    from .settings import Settings

__all__ = ["ModelHost", "Settings", "create_app", "serve"]

# The command line describes its options by `settings` alone.
__getattr__ = lazy_names(
    __name__, {"ModelHost": ".host", "Settings": ".settings", "create_app": ".app", "serve": ".run"}
)
