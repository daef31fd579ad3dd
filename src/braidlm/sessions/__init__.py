"""Chats that are not read twice: messages to tokens and back, and conversations that survive on disk."""

from .chats import Chats, Turn
from .conversation import Conversation
from .session import Session, Stored
from .store import About, NoSessionError, SessionExistsError, SessionStore
from .transcripts import Prompt, Transcripts

__all__ = [
    "About",
    "Chats",
    "Conversation",
    "NoSessionError",
    "Prompt",
    "Session",
    "SessionExistsError",
    "SessionStore",
    "Stored",
    "Transcripts",
    "Turn",
]
