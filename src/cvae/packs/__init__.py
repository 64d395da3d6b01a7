"""Many images in one file, or in a folder of files."""
