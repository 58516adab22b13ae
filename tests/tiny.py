"""Tiny tokenizers of every kind that matters here, made in memory in milliseconds. (Models: tiny_models.py)

Each function gives a fresh `PreTrainedTokenizerFast`, so a test may change it. `save_pretrained` and
`AutoTokenizer.from_pretrained` work on all of them.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = (
    "intent: alarm_set, slot fills: {time: seven am, date: friday}",
    "intent: alarm_set, slot fills: {time: nine am}",
    "intent: play_music, slot fills: {artist: the beatles, place: kitchen}",
    "intent: lights_off, slot fills: {place: living room}",
    "wake me up at seven in the morning on friday",
    "please turn off the lights in the living room",
    "play something by the beatles in the kitchen, and the news after that",
    "the thesis of the theory is that they are therefore there",
    "café naïve Zürich 東京 привет नमस्ते",
)
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BOS_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


def byte_level_bpe(
    texts: Sequence[str] = TEXTS, *, vocab_size: int = 400, chat: bool = False, ignore_merges: bool = False
) -> PreTrainedTokenizerFast:
    """Like Qwen2 and GPT-2: byte-level BPE, no BOS; specials above the vocabulary; EOS `<|im_end|>`."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([_special(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE if chat else None
    return wrapped


def ignore_merges_bpe(
    texts: Sequence[str] = TEXTS, *, vocab_size: int = 400, chat: bool = False
) -> PreTrainedTokenizerFast:
    """Like Llama 3: byte-level BPE that takes a whole pre-token from the vocabulary before any merge, with BOS."""
    wrapped = byte_level_bpe(texts, vocab_size=vocab_size, ignore_merges=True)
    wrapped.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    put_bos_in_front(wrapped)
    wrapped.chat_template = BOS_CHAT_TEMPLATE if chat else None
    return wrapped


def byte_fallback_bpe(
    texts: Sequence[str] = TEXTS, *, vocab_size: int = 500, chat: bool = False
) -> PreTrainedTokenizerFast:
    """Like Llama 2 and Mistral: metaspace BPE over whole texts with byte fallback, BOS in front; EOS `</s>`."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    # two of the texts only: the letters of the others must fall back to bytes
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 259, show_progress=False)
    learner.train_from_iterator([t for t in texts if t.isascii()], trainer)
    learnt = json.loads(learner.to_str())["model"]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    vocab = {piece: number for number, piece in enumerate(["<unk>", "<s>", "</s>", *bytes_, *pieces])}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _with_bos_and_eos(tokenizer, chat)


def unigram(texts: Sequence[str] = TEXTS, *, vocab_size: int = 300, chat: bool = False) -> PreTrainedTokenizerFast:
    """Like T5 and XLNet in its model (Unigram with scores), like Llama 2 in its special tokens.

    The pieces are the most frequent letters, pairs and words: the trainer of `tokenizers` differs from run to run.
    """
    words = ["▁" + word for text in texts for word in text.split()]
    letters = [letter for word in words for letter in word]
    pairs = [word[i : i + 2] for word in words for i in range(len(word) - 1)]
    counts = Counter(words) + Counter(pairs) + Counter(letters) + Counter("\n{}<>[]|/")
    ranked = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece], piece))
    total = counts.total()
    scored = [(piece, math.log(counts[piece] / total)) for piece in ranked[: vocab_size - 3]]
    specials = [(special, 0.0) for special in ("<unk>", "<s>", "</s>")]
    tokenizer = Tokenizer(models.Unigram([*specials, *scored], unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return _with_bos_and_eos(tokenizer, chat)


TOKENIZERS: dict[str, Callable[..., PreTrainedTokenizerFast]] = {
    "byte_level_bpe": byte_level_bpe,
    "ignore_merges_bpe": ignore_merges_bpe,
    "byte_fallback_bpe": byte_fallback_bpe,
    "unigram": unigram,
}


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _with_bos_and_eos(tokenizer: Tokenizer, chat: bool) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([_special(t) for t in ("<unk>", "<s>", "</s>")])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        clean_up_tokenization_spaces=False,
    )
    put_bos_in_front(wrapped)
    wrapped.chat_template = BOS_CHAT_TEMPLATE if chat else None
    return wrapped


def put_bos_in_front(tokenizer: PreTrainedTokenizerFast) -> None:
    bos, bos_id = str(tokenizer.bos_token), tokenizer.bos_token_id
    template = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, bos_id)]
    )
    tokenizer.backend_tokenizer.post_processor = template
