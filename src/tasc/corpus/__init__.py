"""Task examples in, token ids out, and how variable they are. Imports no torch."""

from tasc.corpus.data import Row, Tasks, held_out_rows, load_held_out, load_tasks, shared_rows
from tasc.corpus.template import Template, make_template
from tasc.corpus.tokenizer import encode_batch, fingerprint, load_tokenizer, spelling_classes
from tasc.corpus.tokens import TokenCorpus

__all__ = [
    "Row",
    "Tasks",
    "Template",
    "TokenCorpus",
    "encode_batch",
    "fingerprint",
    "held_out_rows",
    "load_held_out",
    "load_tasks",
    "load_tokenizer",
    "make_template",
    "shared_rows",
    "spelling_classes",
]
