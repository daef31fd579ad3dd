"""`python -m braidlm` is `braid`: what `torchrun -m braidlm train ...` starts."""

from .cli.main import main

main()
