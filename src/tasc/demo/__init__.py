"""A synthetic task of our own, a small base model, and the whole method run on both. Imports torch only when it runs."""

from tasc.demo.base import BASE_FOLDER, copy_base, load_base
from tasc.demo.generator import SPLITS, completion, make_splits, write_splits
from tasc.demo.pipeline import FULL, QUICK, DemoReport, Scale, model_system, run_demo

__all__ = [
    "BASE_FOLDER",
    "FULL",
    "QUICK",
    "SPLITS",
    "DemoReport",
    "Scale",
    "completion",
    "copy_base",
    "load_base",
    "make_splits",
    "model_system",
    "run_demo",
    "write_splits",
]
