"""Lists that are not all of a kind: re-ranking of each user's candidate pool, one method a file."""
