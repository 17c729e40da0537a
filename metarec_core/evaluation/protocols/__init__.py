"""Protocols P1 to P5: who trains, who chooses, who is asked what; and what learners make of it."""
