"""Loops, averaged weights and checkpoints that learners share."""
