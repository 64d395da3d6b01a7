"""Architectures, layers as words, losses and features, in Keras."""
