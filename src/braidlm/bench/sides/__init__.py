"""Sides of a comparison, one file each, run as processes of their own.

A side may run under another interpreter, in which braidlm's dependencies are not installed:
beside `serve`, its file imports nothing but its own library.
"""
