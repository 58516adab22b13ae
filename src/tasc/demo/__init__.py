"""A synthetic task of our own, a small base model, and the whole method run on both. Imports torch only when it runs."""

from tasc.demo.base import BASE_FOLDER, copy_base, load_base
from tasc.demo.generator import SPLITS, completion, make_splits, write_splits
from tasc.demo.pipeline import FULL, QUICK, DemoReport, Scale, model_system, run_demo
from tasc.demo.systems import Quality, Speed, System, measure_quality, measure_speed

__all__ = [
    "BASE_FOLDER",
    "FULL",
    "QUICK",
    "SPLITS",
    "DemoReport",
    "Quality",
    "Scale",
    "Speed",
    "System",
    "completion",
    "copy_base",
    "load_base",
    "make_splits",
    "measure_quality",
    "measure_speed",
    "model_system",
    "run_demo",
    "write_splits",
]
