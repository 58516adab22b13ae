"""Decoding: greedy batched generation with its passes and its time counted."""

from tasc.decode.generate import Generated, generate
from tasc.decode.load import LoadedModel, check_vocabulary, device_name, load_model, pick_device
from tasc.decode.tasks import Completions, adoption, complete, default_max_new_tokens, end_ids
from tasc.decode.timing import Timing, measure, timed_generate

__all__ = [
    "Completions",
    "Generated",
    "LoadedModel",
    "Timing",
    "adoption",
    "check_vocabulary",
    "complete",
    "default_max_new_tokens",
    "device_name",
    "end_ids",
    "generate",
    "load_model",
    "measure",
    "pick_device",
    "timed_generate",
]
