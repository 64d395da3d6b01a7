"""Integers <-> bytes: numpy and the standard library alone."""
