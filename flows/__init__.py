"""Prefect flows and the metarec command: only wiring."""
