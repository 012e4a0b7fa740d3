"""The images of an evaluation."""
