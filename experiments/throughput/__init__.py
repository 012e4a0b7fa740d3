"""How fast is a training step, and how fast could this machine be?"""
