"""The HTTP server: the OpenAI API, stored sessions, metrics, and a page to talk on."""

from .app import create_app
from .host import ModelHost
from .run import serve
from .settings import Settings

__all__ = ["ModelHost", "Settings", "create_app", "serve"]
