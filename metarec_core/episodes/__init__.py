"""Users become tasks: splits, sparse arrays, sampled episodes."""
