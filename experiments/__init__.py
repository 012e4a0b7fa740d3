"""Experiments: one folder, one question, with its command and results."""
