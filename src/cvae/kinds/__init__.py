"""How each kind of model turns pixels into symbols, and back."""
