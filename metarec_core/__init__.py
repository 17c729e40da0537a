"""The library behind metarec: data, learners, ranking and evaluation, free of any orchestrator."""

__version__ = "0.1.0"
