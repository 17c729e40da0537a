"""Ranked lists from predictors, in bounded memory."""
