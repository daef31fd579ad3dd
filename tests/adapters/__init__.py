"""Tests of adapters and of learned initial states."""
