"""The report of a run as one HTML page: charts inline, nothing fetched, light and dark."""

from metarec_core.reporting.html.page import render_report
from metarec_core.reporting.html.record import ChosenPoint, NightReport

__all__ = ["ChosenPoint", "NightReport", "render_report"]
