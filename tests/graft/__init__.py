"""Tests of grafting."""
