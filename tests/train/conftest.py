"""A small task, its byte-level tokenizer and a vocabulary of n-grams, made in memory."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasc.corpus import Tasks, fingerprint
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import make_tasks

SPECIALS = ("<s>", "</s>")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: ids 0 and 1 are BOS and EOS, the others single bytes; 258 in all."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({t: i for i, t in enumerate((*SPECIALS, *alphabet))}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )


@pytest.fixture(scope="session")
def vocabulary(tokenizer: PreTrainedTokenizerFast) -> EnrichedVocabulary:
    """Five n-grams, the last of which is merged from two others."""
    texts = ("intent: dim", ", slots: {", "kitchen: ", "bedroom: ")
    ids = [tuple(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    ngrams = [Ngram(i, i, text=t) for i, t in zip(ids, texts, strict=True)]
    base = len(tokenizer)
    ngrams.append(Ngram(ids[0] + ids[1], (base, base + 1), text=texts[0] + texts[1]))
    return EnrichedVocabulary(base, tuple(ngrams), fingerprint=fingerprint(tokenizer))


@pytest.fixture
def tasks() -> Tasks:
    return make_tasks(48)


@pytest.fixture
def eval_tasks() -> Tasks:
    return make_tasks(10, seed=1)
