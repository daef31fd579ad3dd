"""`python -m braidlm` is `braid`: what `torchrun -m braidlm train ...` starts."""

from .cli.start import main

if __name__ == "__main__":  # processes that it starts import this file anew
    main()
