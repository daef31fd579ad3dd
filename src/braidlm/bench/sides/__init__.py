"""One file a side of a comparison, each run as a process of its own.

A side may run under another interpreter, in which braidlm's dependencies are not installed:
beside `serve`, its file imports nothing but its own library.
"""
