"""Families of tokenizers: what each can take, what is refused and why, and which ids are never part of an n-gram.

byte-level  BPE over the byte-to-character alphabet of GPT-2 (GPT-2, Llama 3, Qwen, SmolLM); half characters work
metaspace   BPE as SentencePiece does it, with or without byte fallback (Llama 2, Mistral, Gemma)
unigram     SentencePiece's unigram model (T5, XLM-R, XGLM)
"""

from typing import TYPE_CHECKING, Any, Literal

from tasc.errors import TokenizerError
from tasc.vocab._backend import flat

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

Family = Literal["byte-level", "metaspace", "unigram"]
PlainSpaces = Literal["none", "inner", "all"]

METASPACE = "▁"


def family_of(state: dict[str, Any]) -> Family:
    """The family of a serialised tokenizer.

    Raises:
        TokenizerError: none of the three.
    """
    model = state["model"]
    kind = model.get("type")
    if kind not in ("BPE", "Unigram"):
        raise TokenizerError(
            f"n-grams cannot be added to a {kind} tokenizer: it takes the longest entry of its vocabulary, so prompts "
            "would be encoded with them; use a model with a BPE or Unigram tokenizer"
        )
    decoders = [decoder["type"] for decoder in flat(state.get("decoder"), "decoders")]
    if not decoders:
        raise TokenizerError(
            "n-grams cannot be added to a tokenizer without a decoder: it joins tokens with spaces, so n-grams would "
            "read differently from their parts; set tokenizer.backend_tokenizer.decoder first"
        )
    if kind == "BPE" and "ByteLevel" in decoders:
        _check_byte_level(state, decoders)
        return "byte-level"
    _check_metaspace_decoder(state, decoders)
    return "metaspace" if kind == "BPE" else "unigram"


def _check_byte_level(state: dict[str, Any], decoders: list[str]) -> None:
    steps = flat(state.get("pre_tokenizer"), "pretokenizers") + flat(state.get("normalizer"), "normalizers")
    if not any(step["type"] == "ByteLevel" for step in steps):
        raise TokenizerError("the decoder is byte-level but the encoder is not; n-grams cannot be spelt for both")
    if not set(decoders) <= {"ByteLevel", "Fuse"}:
        raise TokenizerError(
            f"n-grams cannot be spelt for a decoder made of {decoders}; a plain ByteLevel decoder works"
        )


def _check_metaspace_decoder(state: dict[str, Any], decoders: list[str]) -> None:
    unknown = set(decoders) - {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
    if unknown:
        raise TokenizerError(
            f"n-grams cannot be spelt for a decoder with {sorted(unknown)}; byte-level and metaspace work"
        )
    for decoder in flat(state["decoder"], "decoders"):
        replaces = decoder["type"] == "Replace"
        if replaces and (decoder.get("pattern") != {"String": METASPACE} or decoder.get("content") != " "):
            raise TokenizerError(f"n-grams cannot be spelt for a decoder that replaces {decoder.get('pattern')}")
        if decoder["type"] == "Metaspace" and decoder.get("replacement", METASPACE) != METASPACE:
            raise TokenizerError(
                f"n-grams cannot be spelt with the metaspace {decoder['replacement']!r}; only with '▁'"
            )
    if "Strip" in decoders and "Fuse" not in decoders[: decoders.index("Strip")]:
        raise TokenizerError("n-grams cannot be spelt for a decoder that strips every token instead of the whole text")


def check_model(state: dict[str, Any], family: Family, strings: list[str | None]) -> None:
    """Refuse a model that would use the n-grams when it encodes, or spell them differently.

    Raises:
        TokenizerError: with the reason.
    """
    model = state["model"]
    for option in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise TokenizerError(
                f"n-grams cannot be added to a tokenizer with {option}={model[option]!r}: a token is spelt differently "
                "inside a word; use a byte-level or SentencePiece tokenizer"
            )
    for option in ("dropout", "alpha", "nbest_size"):
        if model.get(option):
            raise TokenizerError(f"the tokenizer encodes at random ({option}={model[option]}); switch that off first")
    if model.get("ignore_merges") and state.get("pre_tokenizer") is None:
        raise TokenizerError(
            "n-grams cannot be added to a tokenizer with ignore_merges and no pre-tokenizer: a prompt that equals an "
            "n-gram would be encoded with it; use a tokenizer that splits text into words"
        )
    if family == "unigram":
        _check_unigram(state, strings)


def _check_unigram(state: dict[str, Any], strings: list[str | None]) -> None:
    steps = flat(state.get("pre_tokenizer"), "pretokenizers") + flat(state.get("normalizer"), "normalizers")
    if not any(step["type"] == "Metaspace" or step.get("content") == METASPACE for step in steps):
        raise TokenizerError("n-grams cannot be added to a Unigram tokenizer that does not write spaces as '▁'")
    late = [string for string in strings[len(state["model"]["vocab"]) :] if string is not None]
    if late:
        raise TokenizerError(
            f"n-grams cannot be added to a Unigram tokenizer with added tokens outside its vocabulary (such as {late[0]!r}):"
            " they would be found where special tokens are to be split; put them into the model's vocabulary first"
        )


def plain_spaces(family: Family, decoders: list[str]) -> PlainSpaces:
    """Which metaspaces of an entry are spelt as plain spaces.

    The Metaspace decoder drops every metaspace of the first token, so those inside an n-gram must be plain spaces. A
    Unigram model would choose an entry for its score; encoded text has no plain spaces, so entries with one never match.
    """
    if "Metaspace" in decoders:
        return "inner"
    return "all" if family == "unigram" else "none"


def special_ids(
    tokenizer: "PreTrainedTokenizerFast",
    state: dict[str, Any],
    strings: list[str | None],
    added: "dict[int, AddedToken]",
) -> frozenset[int]:
    """Ids of special, template and unknown tokens, and ids that stand for nothing."""
    # runs of white space that Gemma or GPT-NeoX keep as added tokens are ordinary text
    banned = {i for i, token in added.items() if token.special or not _is_blank(token)}
    banned |= {i for i in tokenizer.all_special_ids if i is not None}
    banned |= {i for i, string in enumerate(strings) if not string}
    model = state["model"]
    unk = model.get("unk_token")
    if unk is not None and unk in strings:
        banned.add(strings.index(unk))
    if model.get("unk_id") is not None:
        banned.add(int(model["unk_id"]))
    return frozenset(banned)


def _is_blank(token: "AddedToken") -> bool:
    plain = not (token.lstrip or token.rstrip or token.single_word)
    return plain and not token.content.replace(METASPACE, " ").strip()
