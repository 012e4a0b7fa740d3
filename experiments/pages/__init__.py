"""Blocks of text, tables and pictures that pages are made of, and their style."""
