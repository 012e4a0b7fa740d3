"""The claims of this package. `verify.py` checks each of them on this machine."""
