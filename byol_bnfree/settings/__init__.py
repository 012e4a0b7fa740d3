"""The settings of a run, part by part, and their checks; `config` exports them."""
