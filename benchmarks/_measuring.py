"""What the benchmarks of trained models measure with: rows, metric, a model as a system of `tasc.bench`, the machine."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _models import SHARED, Preset, shared_split

from tasc.corpus import Tasks
from tasc.decode import Completions, LoadedModel, complete
from tasc.evals import Metric, make_metric


def drawn_rows(corpus: str, preset: Preset, n_rows: int) -> Tasks:
    """Test rows, drawn without replacement; the first ones of a longer draw are those of a shorter one."""
    test = shared_split(corpus, "test", preset)
    picked = np.random.default_rng(0).permutation(len(test))[:n_rows]
    return Tasks(tuple(test[int(i)] for i in picked), test.source)


def metric_of(corpus: str, preset: Preset) -> Metric:
    if preset.metric == "multilabel":
        return make_metric(preset.metric, labels=SHARED / "data" / corpus / "labels.json")
    return make_metric(preset.metric)


def completer(loaded: LoadedModel) -> Any:
    """The model as what a `tasc.bench.System` calls."""

    def run(rows: Any, batch_size: int, advance: Any) -> Completions:
        return complete(
            loaded.model, loaded.tokenizer, rows, vocabulary=loaded.vocabulary, template="plain",
            batch_size=batch_size, progress=advance,
        )  # fmt: skip

    return run


def _cpu_name() -> str:
    """What Linux calls the processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name() or platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "python": platform.python_version(),
    } | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})  # fmt: skip
