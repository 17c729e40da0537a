"""Learners, one file each, behind one interface."""
