"""A self-contained model directory, and recommendations from it."""
