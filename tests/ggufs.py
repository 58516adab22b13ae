"""Tiny enriched models to export, and where llama.cpp's converter lies."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
import tiny_models
import tiny_tokenizers
from tasc.errors import OptionError
from tasc.export.gguf import find_converter
from tasc.vocab.tokenizer import write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary


def converter() -> Path:
    """llama.cpp's converter, or the test is skipped: no Python package installs it."""
    try:
        return find_converter()
    except OptionError as error:
        pytest.skip(f"needs LLAMA_CPP: {error}")


def llama_3() -> PreTrainedTokenizerFast:
    """Splits text like Llama 3, looks whole words up before it merges, and puts BOS in front."""
    tokenizer = tiny_tokenizers.byte_level()
    tokenizer.backend_tokenizer.normalizer = None
    tokenizer.backend_tokenizer.model.ignore_merges = True
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    tiny.put_bos_in_front(tokenizer)
    return tokenizer


def enriched_run(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    *,
    architecture: str = "llama",
    n: int = 24,
    spare: int = 3,
    vocabulary: EnrichedVocabulary | None = None,
    **changes,
) -> EnrichedVocabulary:
    """Write a checkpoint with random weights whose tokenizer holds n-grams, and `spare` rows that stand for nothing."""
    if vocabulary is None:
        vocabulary = tiny_tokenizers.frequent_ngrams(tokenizer, tiny_tokenizers.TEXTS, n)
    special = dict(eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id)
    model = tiny_models.tiny_model(architecture, rows=vocabulary.size + spare, **(special | changes))
    model.save_pretrained(folder)
    write_tokenizer(tokenizer, vocabulary, folder)
    return vocabulary
