"""Prefect tasks: paths and typed summaries in and out, with logging, tracking and artifacts."""
