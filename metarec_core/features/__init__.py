"""Impute and encode the features of users and items."""
