"""Which enriched tokenizers llama.cpp would use otherwise than they were made to be used, and why."""

import json
from typing import TYPE_CHECKING, Any

from tasc.errors import TokenizerError
from tasc.export.gguf.splitting import IGNORE_MERGES
from tasc.vocab.tokenizer import speller

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tasc.vocab.vocabulary import EnrichedVocabulary

# llama.cpp (src/llama-vocab.cpp) goes by the text: it ends outputs at such a token, or finds it in prompts, whatever its type
_SPECIAL_TEXTS = frozenset((
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "[e~[", "<|fim_prefix|>", "<fim-prefix>",
    "<fim_prefix>", "<PRE>", "<|code_prefix|>", "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>",
    "<SUF>", "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>",
    "<|code_middle|>", "<|middle|>", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>",
    "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>", "<|channel|>", "<|message|>",
    "<|start|>", "<|constrain|>",
))  # fmt: skip
_WHY = {
    "metaspace": (
        "llama.cpp encodes a SentencePiece vocabulary by merging whatever makes an entry of it, so prompts would be encoded with "
        "the n-grams; "
    ),
    "unigram": (
        "llama.cpp's converter reads a Unigram vocabulary from spiece.model, which has no n-grams, and encodes with whatever entry "
        "scores best; "
    ),
}
_INSTEAD = "enrich a model with a byte-level tokenizer (GPT-2, Llama 3, Qwen, SmolLM), or use another engine"


def refuse_leaks(tokenizer: "PreTrainedTokenizerFast", vocabulary: "EnrichedVocabulary") -> None:
    """Refuse an enriched tokenizer whose n-grams llama.cpp would find in prompts or end outputs at.

    Raises:
        TokenizerError: with the reason.
    """
    if vocabulary.options.get("style") == "added-tokens":
        raise TokenizerError(
            "the n-grams were added with add_tokens (--style added-tokens), so llama.cpp would encode prompts with them; enrich "
            "again with --style vocabulary"
        )
    family = speller(tokenizer).family
    if family in _WHY:
        raise TokenizerError(f"{_WHY[family]}{_INSTEAD}")
    entries = tokenizer.convert_ids_to_tokens(list(range(vocabulary.base_size, vocabulary.size)))
    special = next((entry for entry in entries if entry in _SPECIAL_TEXTS), None)
    if special is not None:
        raise TokenizerError(
            f"llama.cpp takes the n-gram {special!r} for a special token of that name, because of its text; enrich again without it"
        )


def refuse_whole_words(base: "PreTrainedTokenizerFast", vocabulary: "EnrichedVocabulary", pre: str) -> None:
    """Refuse n-grams that are whole words where llama.cpp looks words up before it merges, and the tokenizer does not.

    Args:
        base: the tokenizer without the n-grams.
        vocabulary: the n-grams.
        pre: the name of the pre-tokenizer in the GGUF.

    Raises:
        TokenizerError: naming the first such n-gram.
    """
    model: Any = base.backend_tokenizer.model
    if pre not in IGNORE_MERGES or model.ignore_merges:
        return  # of a tokenizer that looks words up itself, such n-grams were refused when it was enriched
    model.ignore_merges = True
    try:
        judge = speller(base)
    finally:
        model.ignore_merges = False
    word = next((ngram for ngram in vocabulary.ngrams if judge.refusal(ngram.ids) is not None), None)
    if word is not None:
        raise TokenizerError(
            f"with its pre-tokenizer {pre} llama.cpp looks whole words up before it merges, so prompts would be encoded with the "
            f"n-gram {word.text!r}; enrich again without it"
        )


def parsed(tokenizer: "PreTrainedTokenizerFast") -> dict[str, Any]:
    """The tokenizer as its `tokenizer.json` reads."""
    return json.loads(tokenizer.backend_tokenizer.to_str())
