"""Trained networks as graphs, with the integer tables of their latents: what a model file is made from."""
