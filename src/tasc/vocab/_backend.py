"""Read the state of a Hugging Face fast tokenizer as plain data. What the live tokenizer does counts, not its file."""

import json
from typing import TYPE_CHECKING, Any

from tasc.errors import TokenizerError

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast


def read_backend(tokenizer: "PreTrainedTokenizerFast") -> dict[str, Any]:
    """The tokenizer as its `tokenizer.json` would read.

    Raises:
        TokenizerError: a slow tokenizer, which has none, or one with steps written in Python.
    """
    if not getattr(tokenizer, "is_fast", False) or not hasattr(tokenizer, "backend_tokenizer"):
        raise TokenizerError(
            f"{type(tokenizer).__name__} is a slow tokenizer without a tokenizer.json; load the fast one of this model"
        )
    try:
        return json.loads(tokenizer.backend_tokenizer.to_str())
    except Exception as error:
        # the Rust side raises bare Exception for a step that is written in Python
        if type(error) is not Exception:
            raise
        raise TokenizerError(f"the tokenizer cannot be saved ({error}), so n-grams cannot be added to it") from error


def added_tokens(tokenizer: "PreTrainedTokenizerFast") -> "dict[int, AddedToken]":
    """Added tokens by id, as they are in use: `tokenizers` ignores the ids that a file gives them."""
    return tokenizer.backend_tokenizer.get_added_tokens_decoder()


def token_strings(state: dict[str, Any], added: "dict[int, AddedToken]") -> list[str | None]:
    """The vocabulary entry of each id, None for ids that stand for nothing; its length is the base size.

    Raises:
        TokenizerError: two entries share an id.
    """
    vocab = state["model"]["vocab"]
    by_id = {i: string for i, (string, _) in enumerate(vocab)} if isinstance(vocab, list) else _inverted(vocab)
    for i, token in added.items():
        if by_id.setdefault(i, token.content) != token.content:
            raise TokenizerError(
                f"the tokens {by_id[i]!r} and {token.content!r} share the id {i}; the tokenizer is damaged, mend it first"
            )
    strings: list[str | None] = [None] * (1 + max(by_id))
    for i, string in by_id.items():
        strings[i] = string
    return strings


def _inverted(vocab: dict[str, int]) -> dict[int, str]:
    by_id = {i: string for string, i in vocab.items()}
    if len(by_id) < len(vocab):
        twice = next(s for s, i in vocab.items() if by_id[i] != s)
        raise TokenizerError(
            f"the tokens {by_id[vocab[twice]]!r} and {twice!r} share the id {vocab[twice]}; mend it first"
        )
    return by_id


def flat(step: dict[str, Any] | None, plural: str) -> list[dict[str, Any]]:
    """A decoder, normaliser or pre-tokenizer with its sequences opened, in order."""
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    return [inner for child in step[plural] for inner in flat(child, plural)]
