"""Decoding: with and without drafts, batched, with passes and time counted."""

from tasc.decode.compare import Comparison, compare
from tasc.decode.cpu import lay_out_for_cpu
from tasc.decode.drafting import Drafting, check_drafter
from tasc.decode.generate import Generated, generate
from tasc.decode.hf import Speculative, speculative
from tasc.decode.load import LoadedModel, check_vocabulary, device_name, load_model, pick_device
from tasc.decode.tasks import Completions, adoption, complete, default_max_new_tokens, end_ids
from tasc.decode.timing import Timing, measure, timed_generate

__all__ = [
    "Comparison",
    "Completions",
    "Drafting",
    "Generated",
    "LoadedModel",
    "Speculative",
    "Timing",
    "adoption",
    "check_drafter",
    "check_vocabulary",
    "compare",
    "complete",
    "default_max_new_tokens",
    "device_name",
    "end_ids",
    "generate",
    "lay_out_for_cpu",
    "load_model",
    "measure",
    "pick_device",
    "speculative",
    "timed_generate",
]
