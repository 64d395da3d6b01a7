"""A trained run -> a model file."""
