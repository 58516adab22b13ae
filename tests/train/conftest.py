"""A small task, its byte-level tokenizer and a vocabulary of n-grams, made in memory."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasc.corpus import Row, Tasks, TokenCorpus, fingerprint
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram

ROOMS = ("kitchen", "bedroom", "attic", "hall")
SPECIALS = ("<s>", "</s>")
CHAT = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def make_tasks(n: int, seed: int = 0) -> Tasks:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        room, level = ROOMS[rng.integers(len(ROOMS))], int(rng.integers(10))
        rows.append(Row(f"set the {room} to {level}", f"intent: dim, slots: {{{room}: {level}}}"))
    return Tasks(tuple(rows), "made")


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


@pytest.fixture(scope="session")
def completions(tokenizer: PreTrainedTokenizerFast) -> TokenCorpus:
    return TokenCorpus.encode(make_tasks(48).completions, tokenizer)
