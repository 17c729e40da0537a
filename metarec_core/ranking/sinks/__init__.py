"""Databases that published lists are copied to, beside the Parquet files that are always there."""
