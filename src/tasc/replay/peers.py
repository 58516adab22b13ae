"""Rival drafters behind the interface of our own, so that one loop decodes or replays them all. They know ids only.

Each has `start(prompt_ids)`, which gives a state with `extend(ids)` and `propose(max_tokens)`, as `tasc.draft.Drafter` has.
Their lengths are their own: what they propose is meant to be verified as a whole.

- `PromptLookup`: Hugging Face's rule, the first match of the longest n-gram of what was read and written so far.
- `NGrammys`: a table of the model's own most likely next token for every token, alone or after prompt n-grams
  (Stewart et al., arXiv 2411.03786).
- `SuffixDecoding`: arctic-inference's `SuffixDecodingCache` (Oliaro et al., arXiv 2411.04975), warmed with outputs.
"""

import importlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasc.draft.interface import Draft, Ids
from tasc.errors import MissingExtraError, OptionError


class PromptLookup:
    """Copies what followed the first occurrence of the longest matching n-gram, as transformers does.

    Args:
        eos_id: a draft stops in front of it.
        max_ngram: the longest n-gram that is looked up; transformers' default is 2.

    Attributes:
        vocab_size: ids it may propose that are in no prompt: none.
        fingerprint: it fits any tokenizer.

    Raises:
        OptionError: `max_ngram` below 1.

    Examples:
        >>> state = PromptLookup(eos_id=0).start([5, 6, 7, 8, 5, 6])
        >>> state.propose(3).tokens.tolist()
        [7, 8, 5]
    """

    vocab_size = 0
    fingerprint = ""

    def __init__(self, *, eos_id: int, max_ngram: int = 2) -> None:
        if max_ngram < 1:
            raise OptionError(f"max_ngram must be at least 1, got {max_ngram}")
        self.eos_id, self.max_ngram = eos_id, max_ngram

    def start(self, prompt_ids: Ids) -> "_Lookup":
        """The memory of one request."""
        return _Lookup(prompt_ids, self.eos_id, self.max_ngram)


class _Lookup:
    """Where each n-gram of the text so far ended first."""

    def __init__(self, prompt_ids: Ids, eos_id: int, max_ngram: int) -> None:
        self._eos_id, self._sizes = eos_id, range(1, max_ngram + 1)
        self._ids: list[int] = []
        self._first_end: dict[tuple[int, ...], int] = {}
        self.extend(prompt_ids)

    def extend(self, ids: Ids) -> None:
        """Append what the target produced."""
        for token in _listed(ids):
            self._ids.append(token)
            end = len(self._ids)
            for size in self._sizes:
                if size <= end:
                    self._first_end.setdefault(tuple(self._ids[end - size :]), end)

    def propose(self, max_tokens: int = 10) -> Draft:
        """What followed the longest suffix that occurred before; empty where none did."""
        end = len(self._ids)
        for size in reversed(self._sizes):
            # the text itself is no match, so an n-gram as long as the text cannot have one
            start = self._first_end.get(tuple(self._ids[end - size :]), end) if size < end else end
            if start < end:
                return _draft(_until(self._ids[start : start + max_tokens], self._eos_id))
        return _draft([])


class NGrammys:
    """Chains of the most likely next token, from a table of the model; optionally behind prompt n-grams.

    Args:
        table: int[vocab_size]: for each token the one that the model finds most likely after it.
        eos_id: a draft ends with it.
        max_ngram: 0 uses the table alone; else a prompt n-gram of at most that length comes first, and the table where
            there is none and behind the copied end of the text.

    Raises:
        OptionError: the table is no list of ids of its own size, or `max_ngram` is negative.

    Examples:
        >>> NGrammys([1, 2, 3, 0], eos_id=3).start([0]).propose(5).tokens.tolist()
        [1, 2, 3]
    """

    fingerprint = ""

    def __init__(self, table: ArrayLike, *, eos_id: int, max_ngram: int = 0) -> None:
        found = np.asarray(table)
        if found.ndim != 1 or not found.size or found.min() < 0 or found.max() >= found.size:
            raise OptionError(f"the table must hold one of its {found.size} ids for each of them")
        if max_ngram < 0:
            raise OptionError(f"max_ngram must not be negative, got {max_ngram}")
        self.eos_id, self.max_ngram, self.vocab_size = eos_id, max_ngram, found.size
        self._table: list[int] = found.tolist()

    def start(self, prompt_ids: Ids) -> "_Bigrams":
        """The memory of one request."""
        lookup = _Lookup(prompt_ids, self.eos_id, self.max_ngram) if self.max_ngram else None
        return _Bigrams(self._table, self.eos_id, prompt_ids, lookup)


class _Bigrams:
    def __init__(self, table: list[int], eos_id: int, prompt_ids: Ids, lookup: _Lookup | None) -> None:
        self._table, self._eos_id, self._lookup = table, eos_id, lookup
        self._last: int | None = None
        self._remember(prompt_ids)

    def extend(self, ids: Ids) -> None:
        """Append what the target produced."""
        self._remember(ids)
        if self._lookup is not None:
            self._lookup.extend(ids)

    def _remember(self, ids: Ids) -> None:
        if len(ids):
            self._last = int(ids[-1])

    def propose(self, max_tokens: int = 10) -> Draft:
        """Prompt n-grams first, if wanted, then the table's chain."""
        tokens = [] if self._lookup is None else self._lookup.propose(max_tokens).tokens.tolist()
        last = tokens[-1] if tokens else self._last
        while last is not None and last != self._eos_id and len(tokens) < max_tokens:
            last = self._table[last]
            tokens.append(last)
        return _draft(tokens)


class SuffixDecoding:
    """arctic-inference's cache of suffix trees, warmed with the outputs of the task.

    Args:
        outputs: ids of each training output, end token included.
        max_tree_depth: longest context plus draft; vLLM's default is 24.
        max_spec_factor: a draft has at most so many tokens per token of matched context; vLLM's default is 1.
        min_token_prob: a draft ends where the estimated probability falls below it; vLLM's default is 0.1.
        tree: draft trees, as Snowflake's own engine can; vLLM drafts chains.
        learns: whether finished outputs enter the cache. Off by default: a benchmark that decodes the same rows in
            several rounds would else find each row's own output there.

    Raises:
        MissingExtraError: arctic-inference is not installed.
    """

    vocab_size = 0  # nobody asks: it knows the ids it was shown
    fingerprint = ""

    def __init__(
        self,
        outputs: Iterable[Ids],
        *,
        max_tree_depth: int = 24,
        max_spec_factor: float = 1.0,
        min_token_prob: float = 0.1,
        tree: bool = False,
        learns: bool = False,
    ) -> None:
        try:
            arctic: Any = importlib.import_module("arctic_inference.suffix_decoding")
        except ImportError as error:
            raise MissingExtraError(
                "arctic-inference is not installed: pip install 'tasc-lm[bench]' (it builds from source for some minutes)"
            ) from error
        self.learns, self.tree = learns, tree
        self.max_tree_depth = max_tree_depth
        self.options = {"max_spec_factor": max_spec_factor, "min_token_prob": min_token_prob}
        self.cache: Any = arctic.SuffixDecodingCache(max_tree_depth)
        self._requests = itertools.count()
        for ids in outputs:
            request = next(self._requests)
            self.cache.start_request(request, [])
            self.cache.add_active_response(request, np.ascontiguousarray(ids, np.int32))
            self.cache.stop_request(request)

    def start(self, prompt_ids: Ids) -> "_SuffixState":
        """The memory of one request."""
        return (_SuffixTreeState if self.tree else _SuffixState)(self, next(self._requests), prompt_ids)


class _SuffixState:
    def __init__(self, peer: SuffixDecoding, request: int, prompt_ids: Ids) -> None:
        self._peer, self._request = peer, request
        peer.cache.start_request(request, np.ascontiguousarray(prompt_ids, np.int32))
        if not peer.learns:
            peer.cache.evict_cached_response(request)  # what follows reaches this request's own tree alone
        self._context = _listed(prompt_ids)[-peer.max_tree_depth :]

    def extend(self, ids: Ids) -> None:
        """Append what the target produced."""
        self._peer.cache.add_active_response(self._request, np.ascontiguousarray(ids, np.int32))
        self._context = (self._context + _listed(ids))[-self._peer.max_tree_depth :]

    def propose(self, max_tokens: int = 10) -> Draft:
        """The chain of the better scored of the two trees: this request's and that of all outputs."""
        found = self._speculate(max_tokens)
        return _draft(found.token_ids, _ratios(found.probs))

    def _speculate(self, max_tokens: int, **options: Any) -> Any:
        return self._peer.cache.speculate(
            self._request, self._context, max_spec_tokens=max_tokens, **self._peer.options, **options
        )

    def __del__(self) -> None:
        # the interface has no end of a request; without this the trees of all requests would pile up
        if self._request in self._peer.cache.active_requests:
            self._peer.cache.stop_request(self._request)


class _SuffixTreeState(_SuffixState):
    def propose_tree(self, max_tokens: int, max_depth: int, *, min_probability: float = 0.0) -> Draft:
        """Of the better scored one the tokens seen most often behind the context, where they lead to among them."""
        found = self._speculate(min(max_tokens, max_depth), use_tree_spec=True)
        return _draft(found.token_ids, _ratios(found.probs))._replace(parents=np.asarray(found.parents, np.int32))


def _ratios(reached: Sequence[float]) -> NDArray[np.float32]:
    """Theirs are products along the branch, falling; ours are the factors from token to token."""
    chances = np.asarray(reached, np.float32)
    return chances / np.concatenate((np.ones(1, np.float32), chances[:-1]))


def _draft(tokens: Sequence[int], probabilities: ArrayLike | None = None) -> Draft:
    """A draft of one source. Rules that know no probabilities claim 1, so that nobody shortens what they propose."""
    chances = np.ones(len(tokens), np.float32) if probabilities is None else np.asarray(probabilities, np.float32)
    return Draft(np.asarray(tokens, np.int32), np.zeros(len(tokens), np.uint8), chances)


def _until(ids: list[int], eos_id: int) -> list[int]:
    return ids[: ids.index(eos_id)] if eos_id in ids else ids


def _listed(ids: Ids) -> list[int]:
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
