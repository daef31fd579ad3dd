"""GGUF files: a strict header, files in parts, the language model's own tensors."""

from .file import GgufFile

__all__ = ["GgufFile"]
