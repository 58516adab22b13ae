"""From a base model and a task to one fine-tuned, merged checkpoint with the task's tokens. Imports torch."""

from tasc.train.adapters import Method, TrainRows
from tasc.train.finetune import TrainingInterrupted, finetune
from tasc.train.report import TrainReport
from tasc.train.surgery import Init, RowsReport, add_rows

__all__ = [
    "Init",
    "Method",
    "RowsReport",
    "TrainReport",
    "TrainRows",
    "TrainingInterrupted",
    "add_rows",
    "finetune",
]
