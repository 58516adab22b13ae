"""Comparing ways to complete rows: quality on the same rows, speed in turns."""

from tasc.bench.systems import Quality, Speed, System, are_comparable, measure_quality, measure_speed, to_json

__all__ = ["Quality", "Speed", "System", "are_comparable", "measure_quality", "measure_speed", "to_json"]
