"""Figures, sentences and summaries that people read."""
