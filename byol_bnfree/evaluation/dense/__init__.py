"""Dense tasks: evaluation of feature maps instead of one vector per image."""
