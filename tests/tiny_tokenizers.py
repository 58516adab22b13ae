"""Tokenizers of every family that n-grams are written into, and frequent n-grams for them. (Plainer ones: tiny.py)"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast, T5Tokenizer

import tiny
from tasc.corpus import encode_batch, fingerprint
from tasc.vocab.tokenizer import Speller, speller
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram

TEXTS = (
    "intent: alarm_set, slot fills: {time: nine am, date: friday}",
    "intent: alarm_set, slot fills: {time: six pm, date: monday}",
    "intent: play_music, slot fills: {artist: Beyoncé, song: café del mar}",
    "the thesis in the theatre; then the other thing in the garden, in the rain",
    "สวัสดีครับ ขอบคุณครับ สวัสดีค่ะ ខ្មែរ ខ្មែរ",
    "if (x == 0) { return x; } else { return -x; }  aaaa aaaaaaaa  12345 2024",
    "👍🏽 👍🏽 日本語 日本語 don't we'll",
    "< > | _ <|x|> extra_id_0123456789",
)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level() -> PreTrainedTokenizerFast:
    """As Qwen 2: NFC, a pre-tokenizer of its own, special and template tokens behind the vocabulary, a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    byte_step = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_step])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    wrapped.chat_template = tiny.CHAT_TEMPLATE
    return wrapped


def llama() -> PreTrainedTokenizerFast:
    """The class that builds its own pre-tokenizer and decoder and takes only vocabulary and merges from the file."""
    model = _model(tiny.byte_fallback_bpe(TEXTS))
    return LlamaTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


def t5() -> PreTrainedTokenizerFast:
    """The class that builds its own decoder."""
    scored = [(piece, score) for piece, score in _model(tiny.unigram(TEXTS))["vocab"][3:]]
    extra = [(f"<extra_id_{k}>", 0.0) for k in (3, 2, 1, 0)]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored, *extra], extra_ids=4)


def _model(tokenizer: PreTrainedTokenizerFast) -> dict:
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]


MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte_level": byte_level,
    "ignore_merges": lambda: tiny.ignore_merges_bpe(TEXTS, vocab_size=340, chat=True),
    "byte_fallback": lambda: tiny.byte_fallback_bpe(TEXTS, vocab_size=420),
    "llama": llama,
    "unigram": lambda: tiny.unigram(TEXTS),
    "t5": t5,
}


@cache
def tiny_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """One shared tokenizer of each kind; tests that change it make their own."""
    return MAKERS[name]()


def frequent_ngrams(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], n: int, *, spell: Speller | None = None
) -> EnrichedVocabulary:
    """The n n-grams of 2 to 4 base ids that save most and may become tokens."""
    spell = spell or speller(tokenizer)
    counts: Counter[tuple[int, ...]] = Counter()
    for row in encode_batch(tokenizer, texts):
        counts.update(tuple(row[i : i + k]) for k in (2, 3, 4) for i in range(len(row) - k + 1))
    spelt = {spell.spell(ids): ids for ids, _ in reversed(counts.most_common())}
    spelt.pop(None, None)
    chosen = sorted(spelt.values(), key=lambda ids: (-counts[ids] * (len(ids) - 1), ids))[:n]
    ngrams = tuple(Ngram(ids, ids, counts[ids], counts[ids] * (len(ids) - 1), text=spell.text(ids)) for ids in chosen)
    return EnrichedVocabulary(spell.base_size, ngrams, "fewest", fingerprint(tokenizer))
