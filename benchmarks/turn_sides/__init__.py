"""The sides of `benchmarks.turns`: each holds one chat by token ids, in a process of its own.

Beside `load`, a side answers to `begin` (a new chat), `turn` (a prompt, of which it may have seen a beginning: the
answer's ids, seconds to the first of them, and tokens that had to be run before it), `keep` (writes the chat's state
to a file) and `resume` (`turn`, after taking up that file; the seconds include that).
"""
