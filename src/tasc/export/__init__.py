"""Drafters for other engines: their files, and beside each what it was made from. Imports no torch.

One module per engine: `llama_cpp` (lookup caches) and `sglang` (external corpus).
"""

from tasc.export.llama_cpp import export_lookup_caches
from tasc.export.sglang import export_corpus

__all__ = ["export_corpus", "export_lookup_caches"]
