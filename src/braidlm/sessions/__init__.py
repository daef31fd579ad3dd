"""Chats that are not read twice: messages to tokens and back, and conversations that survive on disk."""

from .chats import Chats, Turn
from .conversation import Conversation
from .session import Session
from .store import About, SessionStore
from .transcripts import Prompt, Transcripts

__all__ = ["About", "Chats", "Conversation", "Prompt", "Session", "SessionStore", "Transcripts", "Turn"]
