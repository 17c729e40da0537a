"""What a predicted probability of relevance is worth: calibration, its figures and its drift."""
