"""Stored conversations: chats as token ids, sessions with their snapshots, files on disk."""

from .chats import Chats, Turn, message_of
from .conversation import Conversation
from .naming import SessionChangedError, SessionExistsError, Stamp
from .session import Session, StoredSession
from .store import Listing, NoSessionError, SessionStore, SessionSummary, Unreadable
from .transcripts import Prompt, Transcripts

__all__ = [
    "SessionSummary",
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
    "StoredSession",
    "Transcripts",
    "Turn",
    "Unreadable",
    "message_of",
]
