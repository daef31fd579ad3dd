"""Chats that are not read twice: messages to tokens and back, and conversations that survive on disk."""

from .chats import Chats, Turn, message_of
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
    "message_of",
]
