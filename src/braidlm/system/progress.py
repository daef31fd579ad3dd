"""Type of the functions that are told of progress: of what takes long, the units done and those in all."""

from collections.abc import Callable

ProgressFunction = Callable[[int, int], None]
