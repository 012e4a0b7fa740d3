"""The promises of this package, each checked on this machine: see `verify.py`."""
