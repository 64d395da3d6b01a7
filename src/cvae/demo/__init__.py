"""A page in the browser that tries the models: `cvae demo`. Gradio is known in here alone."""
