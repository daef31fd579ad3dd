"""Decode plans: all operations of one token through a model, run by one native call.

A `PlanBuilder` is what mixers and feed-forwards write their step into; the native plan behind it holds
pointers to the model's own weights, so nothing large is copied. A buffer is room for floats in each
row's activations; an input is what a product reads, computed on the fly (a norm, a gate).
"""

from .plan_builder import Layout, PlanBuilder, StateBuffer

__all__ = ["PlanBuilder", "Layout", "StateBuffer"]
