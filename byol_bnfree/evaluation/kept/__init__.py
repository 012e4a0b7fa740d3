"""Results of evaluations that stay on disk."""
