"""Values that options may take, held where the help of a command finds them without importing what they choose."""

# Implementations that an operation may have, and what may be asked for: one of them, or the fastest that is present.
IMPLEMENTATIONS = ("reference", "native", "gpu")
OPS = (*IMPLEMENTATIONS, "auto")

# Draft tokens of one sequence that a pass may have.
MOST_SPECULATIVE_TOKENS = 15
