"""What a model file holds, and how one is found."""
