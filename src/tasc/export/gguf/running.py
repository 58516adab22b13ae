"""What llama.cpp makes of a GGUF, through llama-cpp-python: ids of prompts, n-grams, greedy outputs."""

import importlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from ctypes import create_string_buffer
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasc.errors import MissingExtraError, ModelError, TokenizerError

if TYPE_CHECKING:
    from tasc.vocab.vocabulary import EnrichedVocabulary

_LONGEST_PIECE = 4096  # bytes; n-grams have 255 at most


@dataclass(frozen=True, slots=True)
class Check:
    """Prompts and what transformers makes of them, for llama.cpp to be compared with.

    Attributes:
        texts: prompts as the model reads them, templates and special tokens written out.
        ids: their ids by the Hugging Face tokenizer.
        add_bos: whether the tokenizer put a BOS token in front of `ids`.
        outputs: greedy ids by transformers for the first of them, without end token; empty to compare prompts only.
        end_ids: ids that end an output.
        max_new_tokens: the limit that `outputs` were written under, end token included.
    """

    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    add_bos: bool = False
    outputs: Sequence[Sequence[int]] = ()
    end_ids: Collection[int] = ()
    max_new_tokens: int = 0


def llama_cpp_version() -> str | None:
    """The version of llama-cpp-python; None where it is not installed."""
    try:
        return require_llama_cpp().__version__
    except MissingExtraError:
        return None


def require_llama_cpp() -> Any:
    """llama-cpp-python.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("llama_cpp")
    except ImportError:
        raise MissingExtraError("--check needs llama-cpp-python; pip install llama-cpp-python") from None


@contextmanager
def opened(path: str | os.PathLike[str], *, n_ctx: int) -> Iterator[Any]:
    """A GGUF, loaded by llama-cpp-python and closed again; it keeps keys and values in float32, as transformers does.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
        ModelError: llama.cpp cannot load the file.
    """
    library = require_llama_cpp()
    float32 = library.GGML_TYPE_F32
    try:
        engine = library.Llama(os.fspath(path), n_ctx=n_ctx, type_k=float32, type_v=float32, verbose=False)
    except (ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"llama.cpp cannot load the converted model ({error})") from error
    try:
        yield engine
    finally:
        engine.close()


def check_ngrams(engine: Any, vocabulary: "EnrichedVocabulary") -> int:
    """Refuse n-grams that llama.cpp reads into text, ends outputs at, or decodes otherwise than their parts.

    Returns:
        How many texts were encoded.

    Raises:
        TokenizerError: naming the first such n-gram.
    """
    library = require_llama_cpp()
    native = library.llama_model_get_vocab(engine.model)
    n_texts = 0
    for k, ngram in enumerate(vocabulary.ngrams):
        i = vocabulary.base_size + k
        if library.llama_vocab_is_eog(native, i) or library.llama_vocab_is_control(native, i):
            raise TokenizerError(f"llama.cpp takes the n-gram {ngram.text!r} ({i}) for a special token")
        whole, parts = _text(native, [i]), _text(native, ngram.ids)
        if whole != parts:
            raise TokenizerError(f"llama.cpp decodes the n-gram {i} to {whole!r}, its parts to {parts!r}")
        for text in (parts, b" " + parts, b"a" + parts + b"z", parts + parts, b"\n" + parts + b"\n"):
            n_texts += 1
            if max(engine.tokenize(text, add_bos=False, special=True), default=0) >= vocabulary.base_size:
                raise TokenizerError(f"llama.cpp encodes {text!r} with n-grams, so prompts would change")
    return n_texts


def _text(native: Any, ids: Sequence[int]) -> bytes:
    """The bytes of tokens; `Llama.detokenize` drops a token of more than 32 bytes."""
    to_piece = require_llama_cpp().llama_token_to_piece
    buffer = create_string_buffer(_LONGEST_PIECE)
    pieces = []
    for i in ids:
        n = to_piece(native, i, buffer, _LONGEST_PIECE, 0, True)
        if n < 0:
            raise TokenizerError(f"token {i} has {-n:,} bytes in llama.cpp, more than {_LONGEST_PIECE:,}")
        pieces.append(buffer.raw[:n])
    return b"".join(pieces)


def check_prompts(engine: Any, check: Check) -> int:
    """Refuse a GGUF with which llama.cpp encodes a prompt otherwise than the Hugging Face tokenizer.

    Returns:
        How many prompts were encoded.

    Raises:
        TokenizerError: with how many differ, and the first.
    """
    differing = [
        text
        for text, ids in zip(check.texts, check.ids, strict=True)
        if engine.tokenize(text.encode(), add_bos=check.add_bos, special=True) != list(ids)
    ]
    if differing:
        raise TokenizerError(
            f"llama.cpp encodes {len(differing):,} of {len(check.texts):,} prompts otherwise than the tokenizer, the first: "
            f"{differing[0][:200]!r}"
        )
    return len(check.texts)


def positions(check: Check) -> int:
    """How many positions a context needs for the prompts that are decoded, and their outputs."""
    return max(map(len, check.ids[: len(check.outputs)]), default=1) + check.max_new_tokens + 1


def compare_outputs(engine: Any, check: Check, advance: Callable[[int], None]) -> dict[str, Any]:
    """Decode greedily with llama.cpp and compare the ids.

    Returns:
        `prompts`, `same`, `tokens` (of transformers, end tokens left out), and `differing`: for each other prompt its
        `row` and the number of ids that are the same before the first other one (`position`).
    """
    differing = []
    for row, (ids, expected) in enumerate(zip(check.ids, check.outputs, strict=False)):
        found = _greedy(engine, ids, check)
        if found != list(expected):
            pairs = zip(found, expected, strict=False)
            same = next((n for n, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(found), len(expected)))
            differing.append({"row": row, "position": same})
        advance(1)
    n, tokens = len(check.outputs), sum(map(len, check.outputs))
    return {"prompts": n, "same": n - len(differing), "tokens": tokens, "differing": differing}


def _greedy(engine: Any, ids: Sequence[int], check: Check) -> list[int]:
    engine.reset()
    output: list[int] = []
    for token in engine.generate(list(ids), temp=0.0, repeat_penalty=1.0):
        if token in check.end_ids:
            break
        output.append(token)
        if len(output) == check.max_new_tokens:
            break
    return output
