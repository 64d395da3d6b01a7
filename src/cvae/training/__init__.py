"""Everything that needs Keras: presets, networks, losses, training, calibration and export."""
