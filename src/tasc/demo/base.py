"""The small base model that ships with the package: where it lies, and how to load or copy it.

`scripts/train_demo_base.py` made it; `assets/base/base.json` says with which options and to what loss.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tasc.corpus import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

BASE_FOLDER = Path(__file__).parent / "assets" / "base"


def load_base() -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """Load a fresh copy of the base model (float32, on the CPU) and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(BASE_FOLDER, dtype=torch.float32)
    return model, load_tokenizer(BASE_FOLDER)


def copy_base(folder: str | Path) -> Path:
    """Copy the base model's files to `folder`, for use with every other command."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(BASE_FOLDER.iterdir()):
        shutil.copyfile(file, folder / file.name)  # contents alone: site-packages may be read-only
    return folder
