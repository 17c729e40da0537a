"""Measured claims: one script each, that prints a table and, with --json, one JSON object."""
