"""Pictures in and out, and the places they lie in."""
