"""Read a dataset's own files into raw tables."""
