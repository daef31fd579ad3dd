"""From texts to packed batches.

`build.build` tokenizes sources once into a directory, `shards.Shards` opens it, `stream.Stream` and
`whole.Whole` say which tokens come when. The workers that tokenize import no torch.
"""
