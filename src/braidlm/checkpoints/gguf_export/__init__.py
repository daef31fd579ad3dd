"""Export of models to GGUF files: the way back of the rules by which a family reads them.

Matrices are written in the model's dtype (or the one asked for), and quantized ones bit for bit as they are; vectors,
decays, convolutions, routers and norms in float32, as other readers of these files need them. What an architecture
cannot say is refused: metadata and tokenizer are read back and must mean the same.
"""

from .export import DTYPES, export_gguf
from .tensors import EXACT

__all__ = ["DTYPES", "EXACT", "export_gguf"]
