"""Whether rows are those that a drafter was built from: on such rows it does better than on new ones. Knows ids only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import Drafter

FEWEST_TERMS = 4  # with fewer terms of its prompt a row could be another one with the same output
FEWEST_TOKENS = 8  # of an output, where the drafter knows no prompts


@dataclass(frozen=True, slots=True)
class Seen:
    """How many rows a drafter knew already, as far as can be told: of a prompt it holds only terms.

    Attributes:
        compared: rows that could be compared: short outputs are alike by chance.
        seen: those of them that a row of the drafter is like: the same output, and its terms in the prompt.
        by_prompt: whether prompts were compared too, and not only outputs.
    """

    compared: int
    seen: int
    by_prompt: bool

    @property
    def share(self) -> float:
        """Of the rows that could be compared; 0.0 without any."""
        return self.seen / self.compared if self.compared else 0.0


def seen_rows(drafter: Drafter, prompts: TokenCorpus, outputs: TokenCorpus) -> Seen:
    """Look rows up in a drafter by their whole output and, where it holds any, by the terms of their prompt.

    Args:
        prompts, outputs: of the rows, outputs without end tokens.

    Returns:
        With nothing compared for a drafter of `min_rows`, which holds no whole rows.

    Examples:
        >>> rows = [[5, 6, 7, 8, 9, 10, 11, 12]] * 3
        >>> outputs = TokenCorpus.from_rows(rows)
        >>> drafter = Drafter.build(outputs, eos_id=0, vocab_size=20)
        >>> seen_rows(drafter, outputs, outputs)
        Seen(compared=3, seen=3, by_prompt=False)
    """
    terms, index = _terms(drafter), drafter.index
    row_starts = index.row_starts
    if drafter.options.min_rows > 1:
        return Seen(0, 0, terms is not None)
    compared = seen = 0
    for prompt, output in zip(prompts, outputs, strict=True):
        if len(output) < (FEWEST_TOKENS if terms is None else FEWEST_TERMS):
            continue
        if terms is not None and len(np.unique(prompt)) < FEWEST_TERMS:
            continue
        compared += 1
        places = index.places([index.start_id, *output.tolist(), index.eos_id])
        if terms is None:
            seen += len(places) > 0
        else:
            rows = np.searchsorted(row_starts, places).tolist()
            seen += any(_holds(prompt, terms[0][terms[1][row] : terms[1][row + 1]]) for row in rows)
    return Seen(compared, seen, terms is not None)


def _terms(drafter: Drafter) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
    """Terms of the prompts, row by row, and where each row's begin; None where the drafter holds none."""
    known = drafter.neighbours
    if known is None:
        return None
    order = np.argsort(known.postings, kind="stable")
    terms = np.repeat(known.term_ids, np.diff(known.term_starts))[order]
    counts = np.bincount(known.postings, minlength=known.n_rows)
    return terms, np.concatenate([[0], np.cumsum(counts)])


def _holds(prompt: NDArray[np.int32], terms: NDArray[np.int32]) -> bool:
    return len(terms) >= FEWEST_TERMS and bool(np.isin(terms, prompt).all())
