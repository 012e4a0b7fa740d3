"""The protocols of evaluation and their mathematics."""
