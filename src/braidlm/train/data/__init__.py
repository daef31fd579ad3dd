"""Training data, from documents to packed sequences.

`build.build` tokenizes sources once into a directory, `shards.Shards` opens it, `stream.Stream` and
`whole.Whole` pack its documents into sequences. The workers that tokenize import no torch.
"""
