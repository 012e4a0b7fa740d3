"""Results of an evaluation that stay on disk."""
