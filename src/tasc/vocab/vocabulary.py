"""The enriched vocabulary: which n-grams of base ids became one id, and the two maps between both kinds of sequence.

It works on ids alone. How the new ids are spelt in a tokenizer is the matter of `tasc.vocab.tokenizer`, how they were
chosen that of `tasc.vocab.miner` and `tasc.vocab.best`.
"""

import dataclasses
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasc.corpus import TokenCorpus
from tasc.errors import DataError, FingerprintError, VocabularyError
from tasc.files import read_json, write_json
from tasc.vocab import _kernels
from tasc.vocab._trie import Trie, build_trie, flatten
from tasc.vocab.hub import FILE_NAME, local_folder

FORMAT_VERSION = 1
MOST_IDS = 1 << 30  # ids are int32

Segmentation = Literal["ordered", "fewest"]


@dataclass(frozen=True, slots=True)
class Ngram:
    """One n-gram that has its own id.

    Attributes:
        ids: the base ids it stands for, at least two.
        parts: the ids it was merged from, earlier n-grams included (equal to `ids` where merging has no order).
        count: occurrences in the training outputs when it was chosen.
        reward: tokens saved there when it was chosen, count * (len(parts) - 1) for Algorithm 1.
        pcs: Prefix Collision Score in [0, 1] (paper, section 3.1).
        text: its decoded text, for people; halves of characters show as the replacement character.
    """

    ids: tuple[int, ...]
    parts: tuple[int, ...]
    count: int = 0
    reward: int = 0
    pcs: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class EnrichedVocabulary:
    """N-grams of a base vocabulary that became tokens; n-gram k has id `base_size + k`.

    Args:
        base_size: 1 + the highest id that the base tokenizer knows, special tokens included.
        ngrams: in order of their ids; for `ordered` segmentation also in the order in which they merge.
        segmentation: how `merge` rewrites a sequence. "ordered" applies the n-grams one after the other, each from left
            to right (Algorithm 1 of the paper); "fewest" finds the fewest tokens.
        fingerprint: of the base tokenizer (`tasc.corpus.fingerprint`).
        options: the options that made it, for the record.

    Raises:
        VocabularyError: an n-gram is too short, repeated, or made of ids that do not exist, or there are too many ids.

    Examples:
        >>> v = EnrichedVocabulary(10, (Ngram((1, 2), (1, 2)), Ngram((1, 2, 3), (10, 3))))
        >>> v.merge([1, 2, 3, 1, 2]).tolist()
        [11, 10]
        >>> v.expand([11, 10]).tolist()
        [1, 2, 3, 1, 2]
    """

    base_size: int
    ngrams: tuple[Ngram, ...] = ()
    segmentation: Segmentation = "ordered"
    fingerprint: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.segmentation not in ("ordered", "fewest"):
            raise VocabularyError(f"segmentation must be 'ordered' or 'fewest', not {self.segmentation!r}")
        if self.base_size < 0 or self.size > MOST_IDS:
            raise VocabularyError(f"a vocabulary has from 0 to {MOST_IDS} ids, not {self.size}")
        seen: set[tuple[int, ...]] = set()
        for k, ngram in enumerate(self.ngrams):
            self._check(k, ngram)
            if ngram.ids in seen:
                raise VocabularyError(f"n-gram {k} repeats the ids {list(ngram.ids)}; each may have one id only")
            seen.add(ngram.ids)

    def _check(self, k: int, ngram: Ngram) -> None:
        limit = self.base_size + k if self.segmentation == "ordered" else self.base_size
        if len(ngram.ids) < 2 or not all(0 <= t < self.base_size for t in ngram.ids):
            raise VocabularyError(
                f"n-gram {k} needs two or more base ids below {self.base_size}, has {list(ngram.ids)}"
            )
        if not all(0 <= t < limit for t in ngram.parts):
            raise VocabularyError(f"n-gram {k} is merged from {list(ngram.parts)}, ids must be below {limit}")
        whole = tuple(t for p in ngram.parts for t in self.ids_of(p))
        if len(ngram.parts) < 2 or whole != ngram.ids:
            raise VocabularyError(f"n-gram {k}: its parts {list(ngram.parts)} do not spell its ids {list(ngram.ids)}")

    def __len__(self) -> int:
        return len(self.ngrams)

    @property
    def size(self) -> int:
        """Ids in all: base ids and n-grams."""
        return self.base_size + len(self.ngrams)

    @property
    def expansions(self) -> list[tuple[int, ...]]:
        """The base ids of each n-gram, in order of the n-grams' ids."""
        return [ngram.ids for ngram in self.ngrams]

    def ids_of(self, token: int) -> tuple[int, ...]:
        """The base ids that `token` stands for: itself unless it is an n-gram."""
        return self.ngrams[token - self.base_size].ids if token >= self.base_size else (token,)

    @cached_property
    def _trie(self) -> Trie:
        ordered = self.segmentation == "ordered"
        return build_trie([n.parts if ordered else n.ids for n in self.ngrams])

    @cached_property
    def _part_counts(self) -> NDArray[np.int64]:
        return np.array([len(n.parts) for n in self.ngrams], np.int64)

    @cached_property
    def _flat_expansions(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        return flatten(self.expansions)

    def _merge(
        self, tokens: NDArray[np.int32], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if not self.ngrams:
            return tokens.copy(), offsets.copy()
        if self.segmentation == "ordered":
            longest = int(self._part_counts.max())
            return _kernels.merge_ordered(tokens, offsets, self.base_size, self._part_counts, longest, *self._trie)
        return _kernels.merge_fewest(tokens, offsets, self.base_size, *self._trie)

    @property
    def digest(self) -> str:
        """16 hex digits of a hash of the n-grams in their order and of how they are merged."""
        content = repr((self.base_size, self.segmentation, [ngram.parts for ngram in self.ngrams]))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def merge(
        self, ids: ArrayLike, *, dropout: float = 0.0, rng: np.random.Generator | None = None
    ) -> NDArray[np.int32]:
        """Rewrite base ids with n-gram ids.

        Args:
            ids: base ids of one row, int[n].
            dropout: probability that an n-gram is left in base ids, for stochastic merging in training.
            rng: needed when `dropout` is above 0.

        Returns:
            int32[m], m <= n; `expand` gives `ids` back, whatever the dropout.
        """
        row = np.ascontiguousarray(ids, np.int32)
        merged, _ = self._merge(row, np.array([0, row.size], np.int64))
        if dropout <= 0:
            return merged
        if rng is None:
            raise ValueError("merge with dropout needs a random generator: pass rng")
        dropped = (merged >= self.base_size) & (rng.random(merged.size) < dropout)
        pieces = [self.expand(merged[i : i + 1]) if dropped[i] else merged[i : i + 1] for i in range(merged.size)]
        return np.concatenate(pieces) if pieces else merged

    def merge_corpus(self, corpus: TokenCorpus) -> TokenCorpus:
        """Merge every row of a corpus of base ids.

        Raises:
            FingerprintError: the corpus was made with another tokenizer.
        """
        if corpus.fingerprint and self.fingerprint and corpus.fingerprint != self.fingerprint:
            raise FingerprintError(
                f"the corpus was made with tokenizer {corpus.fingerprint}, the vocabulary with {self.fingerprint}; "
                "encode the corpus again with the vocabulary's base tokenizer"
            )
        tokens, offsets = self._merge(np.asarray(corpus.tokens), np.asarray(corpus.offsets))
        return TokenCorpus(tokens, offsets, corpus.fingerprint)

    def expand(self, ids: ArrayLike) -> NDArray[np.int32]:
        """Write n-gram ids out as base ids: int[m] -> int32[n]; other ids stay."""
        row = np.ascontiguousarray(ids, np.int32)
        return _kernels.expand(row, self.base_size, *self._flat_expansions) if self.ngrams else row.copy()

    def remerge(self, ids: ArrayLike) -> NDArray[np.int32]:
        """Ids of any text as the model would write it: n-grams that occur are written out first, then all are merged."""
        return self.merge(self.expand(ids))

    def save(self, folder: str | Path) -> Path:
        """Write `folder/enriched.json` (atomically) and return its path."""
        path = Path(folder) / FILE_NAME
        ngrams = [{"id": self.base_size + k} | dataclasses.asdict(n) for k, n in enumerate(self.ngrams)]
        header = {
            "format": "tasc-enriched-vocabulary",
            "version": FORMAT_VERSION,
            "base_size": self.base_size,
            "segmentation": self.segmentation,
            "fingerprint": self.fingerprint,
            "options": self.options,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, header | {"ngrams": ngrams})
        return path

    @classmethod
    def load(cls, folder: str | Path) -> "EnrichedVocabulary":
        """Read `folder/enriched.json` (or that file itself, or of a repository on the Hub by its name).

        Raises:
            VocabularyError: the file is missing, damaged or of another version.
        """
        path = local_folder(folder)
        path = path if path.suffix == ".json" else path / FILE_NAME
        try:
            return _from_json(read_json(path))
        except FileNotFoundError:
            raise VocabularyError(f"{path}: no such file; make one with 'tasc enrich'") from None
        except (KeyError, TypeError, ValueError, DataError, VocabularyError) as error:
            raise VocabularyError(f"{path}: damaged ({error}); make it again with 'tasc enrich'") from error


def _from_json(stored: dict[str, Any]) -> EnrichedVocabulary:
    if stored["format"] != "tasc-enriched-vocabulary" or stored["version"] != FORMAT_VERSION:
        raise VocabularyError(
            f"format {stored['format']!r} version {stored['version']}, expected version {FORMAT_VERSION}"
        )
    ngrams = tuple(_ngram(entry) for entry in stored["ngrams"])
    values = [
        _of(kind, stored[name]) for name, kind in (("segmentation", str), ("fingerprint", str), ("options", dict))
    ]
    return EnrichedVocabulary(_of(int, stored["base_size"]), ngrams, *values)


def _ngram(entry: dict[str, Any]) -> Ngram:
    ids, parts = (tuple(_of(int, token) for token in _of(list, entry[name])) for name in ("ids", "parts"))
    count, reward = (_of(int, entry[name]) for name in ("count", "reward"))
    pcs = float(_of((int, float), entry["pcs"]))
    if not 0 <= pcs <= 1:
        raise ValueError(f"a Prefix Collision Score of {pcs}")
    return Ngram(ids, parts, count, reward, pcs, _of(str, entry["text"]))


def _of(kind: Any, value: Any) -> Any:
    """A value of JSON that must be of a kind; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{value!r:.60} is no {getattr(kind, '__name__', 'number')}")
    return value
