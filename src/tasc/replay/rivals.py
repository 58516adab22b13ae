"""Rival drafters by name, made from the outputs that an index holds."""

from collections.abc import Callable

import numpy as np

from tasc.draft.index import Index
from tasc.draft.interface import Drafts
from tasc.draft.paper import PaperDrafter
from tasc.errors import OptionError
from tasc.replay.peers import PromptLookup, SuffixDecoding


def make_rival(name: str, index: Index) -> Drafts:
    """A rival that has seen the outputs of the index and speaks its ids.

    Args:
        name: a key of `RIVALS`.
        index: the outputs that it has seen.

    Raises:
        OptionError: no such rival.
        MissingExtraError: a package that it needs is not installed.

    Examples:
        >>> from tasc.corpus import TokenCorpus
        >>> index = Index.build(TokenCorpus.from_rows([[5, 6, 7]]), start_id=9, eos_id=8)
        >>> make_rival("prompt-lookup", index).start([3, 4, 3]).propose(1).tokens.tolist()
        [4]
    """
    if name not in RIVALS:
        raise OptionError(f"no rival {name!r}; expected some of {', '.join(RIVALS)}")
    return RIVALS[name](index)


def _suffix(index: Index, **options: float) -> Drafts:
    outputs = index.outputs()
    end = np.array([index.eos_id], np.int32)
    return SuffixDecoding((np.concatenate([ids, end]) for ids in outputs), **options)  # type: ignore[arg-type]


# prompt lookup and the second SuffixDecoding with the best options that we found for them
RIVALS: dict[str, Callable[[Index], Drafts]] = {
    "paper": PaperDrafter,
    "corpus": lambda index: PaperDrafter(index, lam=1.0),
    "prompt-lookup": lambda index: PromptLookup(eos_id=index.eos_id, max_ngram=3),
    "suffix": _suffix,
    "suffix-best": lambda index: _suffix(index, max_tree_depth=64, max_spec_factor=4.0, min_token_prob=0.0),
}
