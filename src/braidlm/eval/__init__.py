"""Evaluation: likelihood of text, divergence of two models, recall over long texts, rules that answers keep."""
