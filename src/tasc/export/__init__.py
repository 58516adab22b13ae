"""Drafters and models for other engines: their files, and beside each what it was made from. Imports no torch.

One module per engine and file: `llama_cpp` (lookup caches), `sglang` (external corpus), `gguf` (an enriched model for llama.cpp).
"""

from tasc.export.gguf import export_gguf
from tasc.export.llama_cpp import export_lookup_caches
from tasc.export.sglang import export_corpus

__all__ = ["export_corpus", "export_gguf", "export_lookup_caches"]
