"""Models measured, alone and beside other codecs."""
