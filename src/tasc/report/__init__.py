"""A run as one HTML page that needs nothing else: figures, tables, generations pass by pass. Loads matplotlib only to draw."""

from tasc.report.data import Report, Run
from tasc.report.html import render, write_report
from tasc.report.runs import read_report, read_run

__all__ = ["Report", "Run", "read_report", "read_run", "render", "write_report"]
