"""Decode plans and slots: a step of many sequences as one native call."""
