"""Reads a GGUF back and compares its vocabulary with the tokenizer it was made from."""

import importlib
import os
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from tasc.errors import MissingExtraError, ModelError, TokenizerError
from tasc.export.gguf.splitting import ADD_BOS

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    from tasc.vocab.vocabulary import EnrichedVocabulary

BYTE_LEVEL = "gpt2"  # llama.cpp's name for byte-level BPE
_SPECIAL_ID = re.compile(r"tokenizer\.ggml\.(\w+)_token_id")


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`, as in llama.h."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Written:
    """The vocabulary of a GGUF.

    Attributes:
        architecture: llama.cpp's name of it.
        model: kind of tokenizer: "gpt2" (byte-level BPE), "llama" (SentencePiece) and others.
        pre: name of the pre-tokenizer.
        tokens: the entry of each id.
        types: `TokenType` of each id.
        merges: pairs with a space between; empty where the kind has none.
        special_ids: id of each special token that is named, e.g. `{"eos": 2}`.
        add_bos: whether llama.cpp puts BOS in front; None where the file leaves it to llama.cpp.
        rows: of the embedding.
        head_rows: of the output head; None where it is the embedding.
    """

    architecture: str
    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special_ids: dict[str, int]
    add_bos: bool | None
    rows: int
    head_rows: int | None


def read_gguf(path: str | os.PathLike[str]) -> Written:
    """Read the vocabulary of a GGUF with the gguf library.

    Raises:
        MissingExtraError: the library is not installed.
        ModelError: no GGUF, or one without vocabulary or embedding.
    """
    library = require_library()
    try:
        reader = library.GGUFReader(os.fspath(path))
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: no GGUF ({error}); convert the model again") from error
    shapes = {tensor.name: [int(n) for n in tensor.shape] for tensor in reader.tensors}
    if "tokenizer.ggml.tokens" not in reader.fields or "token_embd.weight" not in shapes:
        raise ModelError(f"{path}: a GGUF without vocabulary or embedding; convert the model again")
    head = shapes.get("output.weight")
    special = {match[1]: _value(reader, key) for key in reader.fields if (match := _SPECIAL_ID.fullmatch(key))}
    return Written(
        architecture=_value(reader, "general.architecture", ""),
        model=_value(reader, "tokenizer.ggml.model", ""),
        pre=_value(reader, "tokenizer.ggml.pre", ""),
        tokens=_value(reader, "tokenizer.ggml.tokens"),
        types=_value(reader, "tokenizer.ggml.token_type", []),
        merges=_value(reader, "tokenizer.ggml.merges", []),
        special_ids=special,
        add_bos=_value(reader, "tokenizer.ggml.add_bos_token"),
        rows=shapes["token_embd.weight"][1],  # GGUF lists dimensions from the fastest on
        head_rows=None if head is None else head[1],
    )


def require_library() -> Any:
    """The gguf library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise MissingExtraError("reading a GGUF needs the gguf library; pip install 'tasc-lm[gguf]'") from None


def _value(reader: Any, key: str, default: Any = None) -> Any:
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def check_vocabulary(
    written: Written,
    tokenizer: "PreTrainedTokenizerFast",
    base_state: dict[str, Any],
    vocabulary: "EnrichedVocabulary | None",
) -> None:
    """Refuse a GGUF whose vocabulary is not the tokenizer's.

    Args:
        written: what was read back.
        tokenizer: the model's, with the n-grams.
        base_state: the parsed `tokenizer.json` without the n-grams; its merges count.
        vocabulary: the n-grams; None for a model without any.

    Raises:
        TokenizerError: the first thing that differs.
        ModelError: the embedding or the head has another number of rows.
    """
    _check_rows(written, tokenizer)
    _check_entries(written, tokenizer)
    _check_special(written, tokenizer, vocabulary)
    if written.model != BYTE_LEVEL:
        if vocabulary is not None and len(vocabulary):
            raise TokenizerError(
                f"llama.cpp would read this vocabulary as {written.model!r}, which merges n-grams in prompts"
            )
        return
    if written.merges != _merges(base_state):
        raise TokenizerError(
            f"the GGUF has {len(written.merges):,} merges, the tokenizer {len(_merges(base_state)):,}, or in another order"
        )
    if vocabulary is not None:
        _check_ngrams(written, tokenizer, vocabulary)


def _check_rows(written: Written, tokenizer: "PreTrainedTokenizerFast") -> None:
    n, head = len(written.tokens), written.head_rows
    if not n == written.rows == (written.rows if head is None else head) == len(written.types):
        raise ModelError(
            f"the GGUF names {n:,} tokens; its embedding has {written.rows:,} rows, its head {head or written.rows:,}"
        )
    highest = max(tokenizer.get_vocab().values())
    if highest >= n:
        raise ModelError(f"the GGUF names {n:,} tokens, the tokenizer has ids up to {highest:,}")


def _check_entries(written: Written, tokenizer: "PreTrainedTokenizerFast") -> None:
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    known = {i: entry for entry, i in tokenizer.get_vocab().items()}
    for i, (entry, kind) in enumerate(zip(written.tokens, written.types, strict=True)):
        if i not in known:
            fits = kind == TokenType.UNUSED
        elif i in added:
            fits = _is_added(entry, kind, added[i], tokenizer)
        else:
            fits = entry == known[i] and kind in _ordinary(written.model)
        if not fits:
            raise TokenizerError(
                f"the GGUF has {entry!r} as token {i}, of type {TokenType(kind).name}; the tokenizer has {known.get(i)!r}"
                f"{' as an added token' if i in added else ''}, so llama.cpp would encode prompts otherwise"
            )


def _ordinary(model: str) -> tuple[TokenType, ...]:
    return (TokenType.NORMAL,) if model == BYTE_LEVEL else (TokenType.NORMAL, TokenType.BYTE, TokenType.UNKNOWN)


def _is_added(entry: str, kind: int, token: "AddedToken", tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Specials are control tokens; others may be one if they look so. The converter writes them as they decode."""
    texts = {token.content}
    if entry not in texts:
        texts.add(str(tokenizer.decode(tokenizer.encode(token.content, add_special_tokens=False))))
        texts |= {text.replace("▁", " ") for text in texts}
    allowed = {TokenType.CONTROL} if token.special else {TokenType.CONTROL, TokenType.USER_DEFINED}
    return entry in texts and kind in allowed | ({TokenType.UNKNOWN} if token.special else set())


def _check_special(
    written: Written, tokenizer: "PreTrainedTokenizerFast", vocabulary: "EnrichedVocabulary | None"
) -> None:
    found = written.special_ids
    for name, expected in (("eos", tokenizer.eos_token_id), ("bos", tokenizer.bos_token_id)):
        if expected is not None and found.get(name) != expected:
            raise TokenizerError(f"the GGUF names {found.get(name)} as {name.upper()} token, the tokenizer {expected}")
    base_size = len(written.tokens) if vocabulary is None else vocabulary.base_size
    wrong = [name for name, i in found.items() if i >= base_size]
    if wrong:
        raise TokenizerError(f"the GGUF names the n-gram {found[wrong[0]]} as {wrong[0]} token")
    adds = written.add_bos
    if adds is None:
        adds = written.model == "llama" or written.pre in ADD_BOS
    if adds != _puts_bos_in_front(tokenizer, found.get("bos")):
        raise TokenizerError(
            f"llama.cpp would {'' if adds else 'not '}put a BOS token in front of prompts, the tokenizer does "
            f"{'not' if adds else 'so'}; set add_bos_token in tokenizer_config.json as the tokenizer behaves"
        )


def _puts_bos_in_front(tokenizer: "PreTrainedTokenizerFast", bos: int | None) -> bool:
    ids = tokenizer.encode("a", add_special_tokens=True)
    return bos is not None and ids[:1] == [bos] and len(ids) > len(tokenizer.encode("a", add_special_tokens=False))


def _check_ngrams(written: Written, tokenizer: "PreTrainedTokenizerFast", vocabulary: "EnrichedVocabulary") -> None:
    base_size = vocabulary.base_size
    expected = tokenizer.convert_ids_to_tokens(list(range(base_size, vocabulary.size)))
    for k, (entry, kind) in enumerate(zip(written.tokens[base_size:], written.types[base_size:], strict=True)):
        if k >= len(vocabulary):
            break
        if entry != expected[k] or kind != TokenType.NORMAL:
            raise TokenizerError(f"the GGUF has {entry!r} of type {TokenType(kind).name} as n-gram {base_size + k}")
    entries = set(written.tokens[base_size : vocabulary.size])
    leads = next((m for m in written.merges if m.replace(" ", "") in entries), None)
    if leads is not None:
        raise TokenizerError(f"the merge {leads!r} leads to an n-gram, so prompts would be encoded with it")


def _merges(state: dict[str, Any]) -> list[str]:
    """As the gguf library writes them: pairs with a space between, spaces inside as the character for byte 32."""
    pairs = state["model"].get("merges") or ()
    return [pair if isinstance(pair, str) else " ".join(part.replace(" ", "Ġ") for part in pair) for pair in pairs]
