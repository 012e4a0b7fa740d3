"""The pictures that an evaluation is made on."""
