"""Which n-grams of a task's outputs deserve a token, and how they get into a tokenizer. Imports no torch."""

from tasc.vocab.enrich import EnrichReport, Shortened, enrich, mine_vocabulary
from tasc.vocab.miner import Merge, mine
from tasc.vocab.tokenizer import remove_ngrams, speller, write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram

__all__ = [
    "EnrichReport",
    "EnrichedVocabulary",
    "Merge",
    "Ngram",
    "Shortened",
    "enrich",
    "mine",
    "mine_vocabulary",
    "remove_ngrams",
    "speller",
    "write_tokenizer",
]
