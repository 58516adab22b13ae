"""Training examples as ids: prompt ids + merged completion ids + EOS, encoded once and never again.

The prompt is masked from the loss. Targets are base ids rewritten by the vocabulary's merge pass, not by a tokenizer, so
the tokenizer's own view of the text never matters here. With merge dropout the pass is drawn anew for every visit of a
row, from (seed, epoch, row) alone, so that an interrupted run meets the same targets again.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from tasc.corpus import Tasks, Template, TokenCorpus
from tasc.errors import DataError, OptionError
from tasc.vocab.vocabulary import EnrichedVocabulary

IGNORED = -100  # label that torch's cross entropy leaves out

ENCODE_ROWS = 1024  # rows per call of the tokenizer
MEGABATCH = 50  # batches among which rows of like length are brought together (Trainer's figure)


@dataclass(frozen=True, slots=True)
class Example:
    """One row as the model sees it: `ids` int32[n]; the first `n_prompt` of them carry no loss."""

    ids: NDArray[np.int32]
    n_prompt: int


@dataclass(frozen=True)
class Examples:
    """Encoded rows of one split.

    Attributes:
        prompts: prompt ids, cut from the left where they were too long.
        completions: base ids of the outputs, without EOS.
        targets: the same outputs after the merge pass, without EOS.
        vocabulary: the n-grams, or None for a run in base ids.
        eos_id: ends every target.
        n_bytes: bytes of the outputs' UTF-8 text, int64[n_rows].
        merge_dropout: probability that an occurrence of an n-gram stays in base ids.
        seed: of the merge dropout.
        n_cut: prompts that were cut.
        n_left_out: rows whose output alone exceeds the length limit; they are not among the examples.
    """

    prompts: TokenCorpus
    completions: TokenCorpus
    targets: TokenCorpus
    vocabulary: EnrichedVocabulary | None
    eos_id: int
    n_bytes: NDArray[np.int64]
    merge_dropout: float = 0.0
    seed: int = 0
    n_cut: int = 0
    n_left_out: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per example with every n-gram merged, EOS included: int64[n_rows]."""
        return self.prompts.lengths + self.targets.lengths + 1

    def example(self, row: int, *, epoch: int | None = None) -> Example:
        """The example of a row; `epoch` draws its merge dropout, None merges every n-gram."""
        prompt = self.prompts[row]
        ids = np.concatenate((prompt, self._target(row, epoch), [self.eos_id]), dtype=np.int32, casting="unsafe")
        return Example(ids, len(prompt))

    def _target(self, row: int, epoch: int | None) -> NDArray[np.int32]:
        if self.vocabulary is None or self.merge_dropout == 0 or epoch is None:
            return self.targets[row]
        rng = np.random.default_rng((self.seed, epoch, row))
        return self.vocabulary.merge(self.completions[row], dropout=self.merge_dropout, rng=rng)


def encode_examples(
    tasks: Tasks,
    template: Template,
    *,
    vocabulary: EnrichedVocabulary | None = None,
    merge_dropout: float = 0.0,
    seed: int = 0,
    max_length: int = 2048,
) -> Examples:
    """Encode a split for training or evaluation.

    Args:
        tasks: rows of prompt and completion.
        template: turns both into base ids.
        vocabulary: merges the completions; None leaves base ids.
        merge_dropout: in [0, 1); see `Examples`.
        max_length: tokens per example, EOS included. A longer prompt loses its left end (what the tokenizer puts in
            front, BOS, stays); a row whose output does not fit beside one prompt token is left out.

    Raises:
        DataError: no row is left.
        OptionError: merge_dropout is out of range.
    """
    if not 0 <= merge_dropout < 1:
        raise OptionError(f"merge_dropout must be at least 0 and below 1, not {merge_dropout}")
    prompts = TokenCorpus.from_rows(_encoded(tasks.rows, template.encode_prompts))
    completions = TokenCorpus.from_rows(_encoded(tasks.completions, template.encode_completions))
    targets = completions if vocabulary is None else vocabulary.merge_corpus(completions)
    longest = completions if merge_dropout else targets  # dropout may leave every n-gram in base ids
    room = max_length - longest.lengths - 1
    kept = np.flatnonzero(room > len(template.prefix))
    if not kept.size:
        raise DataError(f"{tasks.source}: no output fits into {max_length} tokens; raise --max-length")
    texts = tasks.completions
    return Examples(
        prompts=_cut(prompts.take(kept), room[kept], template.prefix),
        completions=completions.take(kept),
        targets=targets.take(kept),
        vocabulary=vocabulary,
        eos_id=template.eos_id,
        n_bytes=np.array([len(texts[r].encode()) for r in kept], np.int64),
        merge_dropout=merge_dropout,
        seed=seed,
        n_cut=int((prompts.lengths[kept] > room[kept]).sum()),
        n_left_out=len(tasks) - kept.size,
    )


def _encoded(rows: Sequence[Any], encode: Callable[[Any], list[list[int]]]) -> Iterator[list[int]]:
    chunks = (rows[start : start + ENCODE_ROWS] for start in range(0, len(rows), ENCODE_ROWS))
    return itertools.chain.from_iterable(map(encode, chunks))


def _cut(prompts: TokenCorpus, room: NDArray[np.int64], prefix: tuple[int, ...]) -> TokenCorpus:
    """Prompts of at most `room` tokens each, int64[n_rows]: the left end goes, a prefix in front of it stays."""
    if (prompts.lengths <= room).all():
        return prompts
    return TokenCorpus.from_rows(_right_end(prompt, int(n), prefix) for prompt, n in zip(prompts, room, strict=True))


def _right_end(prompt: NDArray[np.int32], n: int, prefix: tuple[int, ...]) -> NDArray[np.int32]:
    if len(prompt) <= n:
        return prompt
    n_front = len(prefix) if tuple(prompt[: len(prefix)].tolist()) == prefix else 0
    return np.concatenate((prompt[:n_front], prompt[len(prompt) - (n - n_front) :]))


def plan(lengths: NDArray[np.int64], *, n_visits: int, batch_size: int, seed: int) -> NDArray[np.int64]:
    """The order of all visits of a run, known in advance so that any process can resume it at any step.

    Every epoch is one permutation of the rows. Rows of like length are brought together within stretches of 50
    batches, whose batches then come in random order, as the Trainer's length-grouped sampler does it. The rows that
    fill no batch at the end of an epoch come with the next one.

    Args:
        lengths: tokens per row, int64[n_rows].
        n_visits: rows to visit in all, over as many epochs as that takes.
        batch_size: rows per batch; every aligned block of so many visits is one batch.

    Returns:
        int64[n_visits], each `epoch * n_rows + row`.
    """
    n_rows = len(lengths)
    epochs = -(-n_visits // n_rows)
    order = np.concatenate([e * n_rows + np.random.default_rng((seed, e)).permutation(n_rows) for e in range(epochs)])
    order = order[:n_visits]
    rng = np.random.default_rng((seed, epochs, 1))
    edges = _edges(n_rows, n_visits, batch_size)
    grouped = [_group(order[i:j], lengths, batch_size, rng) for i, j in itertools.pairwise(edges)]
    return np.concatenate(grouped)


def _edges(n_rows: int, n_visits: int, batch_size: int) -> list[int]:
    """Where stretches begin and end: with each epoch as far as whole batches allow, and every 50 batches inside it."""
    epochs = [start // batch_size * batch_size for start in range(0, n_visits, n_rows)] + [n_visits]
    inside = (range(i, j, MEGABATCH * batch_size) for i, j in itertools.pairwise(epochs))
    return [*itertools.chain.from_iterable(inside), n_visits]


def _group(
    visits: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    ordered = visits[np.argsort(-lengths[visits % len(lengths)], kind="stable")]
    n_full = len(ordered) // batch_size * batch_size
    full = rng.permutation(ordered[:n_full].reshape(-1, batch_size), axis=0)
    return np.concatenate((full.ravel(), ordered[n_full:]))  # what is no whole batch stays last


class PlannedVisits(Dataset[Example]):
    """The visits of a plan in their order: item i is the example of visit i."""

    def __init__(self, examples: Examples, order: NDArray[np.int64]) -> None:
        self.examples = examples
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, visit: int) -> Example:
        epoch, row = divmod(int(self.order[visit]), len(self.examples))
        return self.examples.example(row, epoch=epoch)


def collate(examples: Sequence[Example], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Pads on the right to the longest of a batch.

    Returns:
        `input_ids`, `attention_mask` and `labels`, each int64[n_examples, longest]; labels of prompts and padding are
        -100, and the model shifts them itself.
    """
    longest = max(len(e.ids) for e in examples)
    input_ids = torch.full((len(examples), longest), pad_id, dtype=torch.int64)
    labels = torch.full_like(input_ids, IGNORED)
    mask = torch.zeros_like(input_ids)
    for i, example in enumerate(examples):
        n, ids = len(example.ids), torch.from_numpy(example.ids.astype(np.int64))
        input_ids[i, :n] = ids
        labels[i, example.n_prompt : n] = ids[example.n_prompt :]
        mask[i, :n] = 1
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
