"""Decode plans and slots: one token of many sequences as one native call."""
