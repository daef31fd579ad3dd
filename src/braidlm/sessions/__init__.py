"""Conversations that survive: messages to tokens and back, no token read twice, files on disk."""

from .chats import Chats, Turn, message_of
from .conversation import Conversation
from .naming import SessionChangedError, SessionExistsError, Stamp
from .session import Session, Stored
from .store import About, Listing, NoSessionError, SessionStore, Unreadable
from .transcripts import Prompt, Transcripts

__all__ = [
    "About",
    "Chats",
    "Conversation",
    "Listing",
    "NoSessionError",
    "Prompt",
    "Session",
    "SessionChangedError",
    "SessionExistsError",
    "SessionStore",
    "Stamp",
    "Stored",
    "Transcripts",
    "Turn",
    "Unreadable",
    "message_of",
]
