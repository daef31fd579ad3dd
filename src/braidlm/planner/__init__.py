"""Planner: what a model costs before it is loaded, in bytes and operations, and how fast this machine will run it."""
