"""The drafter of the TASC paper (arXiv 2602.24174, TASC-spec): n-grams of the task's outputs mixed with those of the prompt.

What the paper says, and where it is silent what we do:

- Corpus half: n-gram models of the outputs for n = 1..n_max, n-grams seen less than `p_min` times removed. The longest
  context of at most n_max - 1 tokens that is in a model decides; if there is none, the most frequent token of the
  corpus. Open in the paper: frequencies are relative to what is left after pruning, and contexts begin where the output
  begins, as those of the corpus do.
- Prompt half: the same over prompt and output so far. Open in the paper: nothing is pruned there (a prompt holds few
  n-grams five times), and where not even the last token occurred before, this half says nothing.
- Mixture `lam * p_corpus + (1 - lam) * p_prompt`; a half that knows nothing leaves the other alone. A draft is the chain
  of the most likely tokens, the lowest id among equals, up to the end token.

These choices give the reference figures in `tests/replay/test_simulate.py`. The n-gram models are read off the suffix
array of an `Index`; what was found for a context is kept in a table of fixed size, so that it is looked up once. Knows
ids only.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasc.draft import _paper as kernels
from tasc.draft.index import Index
from tasc.draft.interface import Draft, Ids
from tasc.errors import OptionError

_MEMO_LINES = 1 << 15  # power of two; 1.4 MB at n_max 4
_SPARE = 64  # ids that a request's memory has room for beyond those it holds


class PaperDrafter:
    """Drafts from an index of outputs as the paper does. Safe to share between requests and threads.

    Args:
        index: the task's outputs.
        n_max: longest n-gram, context and next token together.
        p_min: an n-gram of the corpus counts from so many occurrences on.
        lam: weight of the corpus; 1 leaves the prompt out, 0 the corpus.
        fingerprint: of the tokenizer; `""` fits any.

    Raises:
        OptionError: a value out of range.

    Examples:
        >>> from tasc.corpus import TokenCorpus
        >>> index = Index.build(TokenCorpus.from_rows([[5, 6, 7]] * 5), start_id=9, eos_id=8)
        >>> state = PaperDrafter(index).start([1, 2, 3])
        >>> state.extend([5])
        >>> state.propose(10).tokens.tolist()
        [6, 7, 8]
    """

    def __init__(
        self, index: Index, *, n_max: int = 4, p_min: int = 5, lam: float = 0.75, fingerprint: str = ""
    ) -> None:
        if not 1 <= n_max <= 16:
            raise OptionError(f"n_max must be from 1 to 16, got {n_max}")
        if not 1 <= p_min < 2**31:
            raise OptionError(f"p_min must be at least 1, got {p_min}")
        if not 0 <= lam <= 1:
            raise OptionError(f"lam must be from 0 to 1, got {lam}")
        self.index, self.n_max, self.p_min, self.lam = index, n_max, p_min, float(lam)
        self.fingerprint, self.vocab_size, self.eos_id = fingerprint, index.start_id, index.eos_id
        self._options = (n_max, p_min, index.start_id, index.eos_id)
        self._memo = np.zeros((1 + _MEMO_LINES, n_max + kernels.N_FOUND), np.int32)

    def start(self, prompt_ids: Ids) -> "PaperState":
        """The memory of one request."""
        return PaperState(self, prompt_ids)


class PaperState:
    """Prompt and output so far of one request; see `tasc.draft.interface.DraftState`."""

    __slots__ = ("_drafter", "_memory", "_n_prompt", "_n_text", "_table")

    def __init__(self, drafter: PaperDrafter, prompt_ids: Ids) -> None:
        self._drafter = drafter
        self._n_text = 0
        self._make_room(len(prompt_ids))
        self.extend(prompt_ids)
        self._n_prompt = self._n_text

    def extend(self, ids: Ids) -> None:
        """Append what the target produced, in order, its end token included."""
        added = np.asarray(ids, np.int32)
        if self._n_text + len(added) > self._memory.shape[1]:
            self._make_room(len(added))
        kernels.append(self._memory, self._table, self._n_text, added)
        self._n_text += len(added)

    def propose(self, max_tokens: int = 10) -> Draft:
        """At most `max_tokens` tokens, none behind an end token. The state stays as it is."""
        room = max(max_tokens, 0)
        if self._n_text + room > self._memory.shape[1]:
            self._make_room(room)
        tokens, sources, chances = np.empty(room, np.int32), np.empty(room, np.uint8), np.empty(room, np.float32)
        drafter = self._drafter
        n = kernels.propose(
            drafter.index.tokens,
            drafter.index.suffixes,
            drafter._memo,
            self._memory,
            self._table,
            self._n_prompt,
            self._n_text,
            drafter._options,
            drafter.lam,
            tokens,
            sources,
            chances,
        )
        return Draft(tokens, sources, chances) if n == room else Draft(tokens[:n], sources[:n], chances[:n])

    def _make_room(self, more: int) -> None:
        """Memory for the text, `more` ids and some to spare; at least twice what it was, so that growing stays cheap."""
        known: NDArray[Any] | None = getattr(self, "_memory", None)
        room = max(self._n_text + more + _SPARE, 0 if known is None else 2 * known.shape[1])
        self._memory = np.zeros((4, room), np.int32)
        self._table = np.zeros((3, 1 << (2 * room - 1).bit_length()), np.int32)
        if known is not None:
            kernels.append(self._memory, self._table, 0, known[0, : self._n_text])
