"""Serving a model over HTTP: the OpenAI API, stored sessions, figures, and a page to talk on."""

from .app import create_app
from .host import ModelHost
from .run import serve
from .settings import Settings

__all__ = ["ModelHost", "Settings", "create_app", "serve"]
