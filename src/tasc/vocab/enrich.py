"""From a task's outputs to an enriched tokenizer: encode, mine, judge, write, prove.

`enrich` loads and reports; `mine_vocabulary` does the work on ids.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasc.corpus import Tasks, TokenCorpus, held_out_rows, load_held_out, load_tasks, load_tokenizer
from tasc.corpus.variability import renyi_entropy
from tasc.errors import DataError, OptionError, TokenizerError
from tasc.progress import Progress, silent
from tasc.vocab.best import choose
from tasc.vocab.budget import GRID, BudgetPoint, cost_of, pick_budget
from tasc.vocab.miner import Merge, mine
from tasc.vocab.pcs import PrefixCollisions
from tasc.vocab.tokenizer import Speller, Style, base_of, holds_ngrams, speller, write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Method = Literal["paper", "best"]
WEIGHTS = ("*.safetensors", "*.bin")  # of a model

LEAST_HELD_OUT = 20  # rows, for a budget that is chosen without rows for it
CHECKED_PROMPTS = 10_000  # evenly spaced over the rows; with the built-in sample, enough to catch any systematic change


@dataclass(frozen=True, slots=True)
class Shortened:
    """Outputs before and after merging, in tokens; EOS is not counted.

    Attributes:
        tokens_before: base tokens of all rows.
        tokens_after: tokens of all rows with n-grams.
    """

    tokens_before: int
    tokens_after: int

    @property
    def ratio(self) -> float:
        """Tokens before over tokens after; 1 for no tokens at all."""
        return self.tokens_before / self.tokens_after if self.tokens_after else 1.0

    def to_json(self) -> dict[str, float]:
        """Both counts and their ratio."""
        return asdict(self) | {"ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class EnrichReport:
    """What `enrich` did.

    Attributes:
        vocabulary: the n-grams.
        train: on the outputs that were mined.
        eval: on the held-out outputs, if there are any.
        h2_nats: Renyi entropy of order 2 of the training outputs' tokens, before and after merging.
        seconds: per stage: encode, warm_up (of compiled code), mine, merge, write.
        prompt_drift: texts whose tokenisation changed; 0 unless the style is "added-tokens".
        curve: expected decoding cost by budget, for an automatic budget.
        reason: why this budget.
        options: `budget`, `n_max`, `method`, `pcs` and `style` as they were given.
    """

    vocabulary: EnrichedVocabulary
    train: Shortened
    eval: Shortened | None
    h2_nats: tuple[float, float]
    seconds: dict[str, float]
    prompt_drift: int
    curve: tuple[BudgetPoint, ...] = ()
    reason: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready values; the n-grams themselves are in `enriched.json`."""
        return {
            "added": len(self.vocabulary),
            "train": self.train.to_json(),
            "eval": self.eval.to_json() if self.eval else None,
            "h2_nats": {"before": self.h2_nats[0], "after": self.h2_nats[1]},
            "seconds": self.seconds,
            "prompt_drift": self.prompt_drift,
            "budget": {"reason": self.reason, "curve": [asdict(point) for point in self.curve]},
            "options": self.options,
        }


def enrich(
    data: str | Path | Tasks,
    tokenizer: "str | Path | PreTrainedTokenizerFast",
    *,
    budget: int | Literal["auto"] = "auto",
    n_max: int = 4,
    method: Method = "best",
    pcs: float | None = None,
    eval_tasks: str | Path | Tasks | None = None,
    out: str | Path | None = None,
    style: Style = "vocabulary",
    grid: Sequence[int] = GRID,
    progress: Progress = silent,
) -> EnrichReport:
    """Mine n-grams from a task's outputs and write the enriched tokenizer.

    Args:
        data: the task's rows; only completions are mined.
        tokenizer: of the model that will be fine-tuned.
        budget: n-grams to add (M), or "auto": chosen by expected decoding cost on `eval_tasks`.
        n_max: longest n-gram, in current tokens, that one merge of Algorithm 1 makes.
        method: "paper" for Algorithm 1, "best" for shorter outputs at the same budget.
        pcs: n-grams with a Prefix Collision Score of this or more are left out; None leaves none out.
        eval_tasks: held-out rows to report on, and to choose an automatic budget by; of a folder its split `validation`.
            Without any, a tenth of `data` is held out for an automatic budget and not mined.
        out: folder for the enriched tokenizer; nothing is written without it.
        style: "vocabulary", or the paper's "added-tokens" for comparison.
        grid: the budgets that an automatic one is chosen from.
        progress: `progress(description, total=..., unit=...)`, a context manager that yields a function of rows done.

    Raises:
        DataError, TokenizerError, OptionError: with the reason.
    """
    _check_options(budget, method, pcs)
    if out is not None and any(file for pattern in WEIGHTS for file in Path(out).glob(pattern)):
        raise OptionError(f"{out} holds a model, whose tokenizer would be replaced; choose another folder")
    tasks = load_tasks(data) if isinstance(data, str | Path) else data
    held_out = load_held_out(eval_tasks) if isinstance(eval_tasks, str | Path) else eval_tasks
    if budget == "auto" and held_out is None:
        apart = held_out_rows(tasks)
        tasks, held_out = (Tasks(tuple(compress(tasks, side)), tasks.source) for side in (~apart, apart))
        if len(held_out) < LEAST_HELD_OUT:
            raise DataError(
                f"{tasks.source}: too few rows to hold out {LEAST_HELD_OUT} that choose a budget; pass --eval, or a number "
                "as --budget"
            )
    base = load_tokenizer(tokenizer)
    name = base.name_or_path or ""
    if holds_ngrams(name):
        raise TokenizerError(f"{name} holds n-grams already; pass its base tokenizer, {base_of(name)}")
    clock = _Clock()
    train = _encode(tasks, base, "encoding outputs", progress)
    evaluation = None if held_out is None else _encode(held_out, base, "encoding held-out outputs", progress)
    if not train.n_tokens:
        raise DataError(f"{tasks.source}: the completions hold no tokens; nothing can be mined")
    clock.lap("encode")
    warm_up()
    clock.lap("warm_up")
    options: dict[str, Any] = {"budget": budget, "n_max": n_max, "method": method, "pcs": pcs, "style": style}
    vocabulary, curve, reason = mine_vocabulary(
        train, speller(base, style=style), options=options, held_out=evaluation, grid=grid, progress=progress
    )
    clock.lap("mine")
    train_after = vocabulary.merge_corpus(train)
    eval_after = None if evaluation is None else vocabulary.merge_corpus(evaluation)
    clock.lap("merge")
    drift = 0
    if out is not None:
        prompts = tasks.prompts if held_out is None else [*tasks.prompts, *held_out.prompts]
        texts = prompts[:: -(-len(prompts) // CHECKED_PROMPTS)]
        drift = write_tokenizer(base, vocabulary, out, style=style, texts=texts).n_changed
        clock.lap("write")
    return EnrichReport(
        vocabulary=vocabulary,
        train=Shortened(train.n_tokens, train_after.n_tokens),
        eval=Shortened(evaluation.n_tokens, eval_after.n_tokens) if evaluation and eval_after else None,
        h2_nats=(_h2(train), _h2(train_after)),
        seconds=clock.seconds,
        prompt_drift=drift,
        curve=tuple(curve),
        reason=reason,
        options=options,
    )


def mine_vocabulary(
    train: TokenCorpus,
    spell: Speller,
    *,
    options: dict[str, Any],
    held_out: TokenCorpus | None = None,
    grid: Sequence[int] = GRID,
    progress: Progress = silent,
) -> tuple[EnrichedVocabulary, list[BudgetPoint], str]:
    """Mine base ids; returns the vocabulary, the cost curve of an automatic budget, and the reason for the budget.

    Args:
        train: base ids of the outputs.
        spell: judges what may become a token.
        options: `budget`, `n_max`, `method`, `pcs` as in `enrich`; they are stored in the vocabulary.
        held_out: base ids of other outputs, needed for an automatic budget.
        grid: the budgets that an automatic one is chosen from.
        progress: see `tasc.progress.Progress`.
    """
    miner = _VocabularyMiner(train, spell, options, progress)
    if options["budget"] != "auto":
        return next(miner.vocabularies([options["budget"]])), [], f"M={options['budget']} was asked for"
    assert held_out is not None, "an automatic budget is chosen by them"
    empty = EnrichedVocabulary(spell.base_size, fingerprint=train.fingerprint)
    found = [empty, *miner.vocabularies(grid)]
    curve = [cost_of(v, miner.corpus, miner.counts, held_out) for v in found]
    pick, reason = pick_budget(curve)
    vocabulary = next(v for v, point in zip(found, curve, strict=True) if point is pick)
    return vocabulary, sorted(curve, key=lambda point: point.budget), reason


def warm_up() -> None:
    """Load or compile the kernels, so that no timing holds a compilation."""
    rows = TokenCorpus.from_rows([[1, 2, 3, 1, 2, 3], [2, 3, 1, 2, 3]])
    counts = np.array([3, 4], np.int64)
    list(mine(rows, counts, budget=3, base_size=5))
    list(choose(rows, counts, budgets=[2], base_size=5))
    for segmentation in ("ordered", "fewest"):
        ngrams = (Ngram((1, 2), (1, 2)),)
        vocabulary = EnrichedVocabulary(5, ngrams, segmentation)
        vocabulary.expand(vocabulary.merge([1, 2, 3]))


class _VocabularyMiner:
    """One corpus, one set of options, vocabularies of several budgets."""

    def __init__(self, train: TokenCorpus, spell: Speller, options: dict[str, Any], progress: Progress) -> None:
        self.spell, self.options, self.progress, self.fingerprint = spell, options, progress, train.fingerprint
        self.corpus, self.counts = train.unique()
        weights = np.repeat(self.counts, self.corpus.lengths)
        base_counts = np.bincount(self.corpus.tokens, weights=weights, minlength=spell.base_size)
        self.collisions = PrefixCollisions(spell.pieces(), base_counts.astype(np.int64))
        self.judged: dict[tuple[int, ...], bool] = {}
        self.spelt: dict[str, tuple[int, ...]] = {}

    def accept(self, ids: tuple[int, ...]) -> bool:
        """May this n-gram become a token? A spelling belongs to the first n-gram that asks for it."""
        if ids not in self.judged:
            spelling = self.spell.spell(ids)
            alpha = self.options["pcs"]
            self.judged[ids] = (
                spelling is not None
                and self.spelt.setdefault(spelling, ids) == ids
                and (alpha is None or self.collisions.score(ids) < alpha)
            )
        return self.judged[ids]

    def vocabularies(self, budgets: Sequence[int]) -> Iterator[EnrichedVocabulary]:
        """One vocabulary for each budget, not in order."""
        size = self.spell.base_size
        if self.options["method"] == "paper":
            merges = self._mine(max(budgets))
            for budget in budgets:
                ngrams = [self._ngram(m.ids, m.parts, m.count, m.reward) for m in merges[:budget]]
                yield EnrichedVocabulary(size, tuple(ngrams), "ordered", self.fingerprint, self.options)
            return
        with self.progress("choosing n-grams", total=len(budgets), unit="budgets") as advance:
            options = {"base_size": size, "n_max": self.options["n_max"], "accept": self.accept}
            for _, chosen in choose(self.corpus, self.counts, budgets=budgets, **options):
                advance(1)
                ngrams = [self._ngram(c.ids, c.ids, c.count, c.reward) for c in chosen]
                yield EnrichedVocabulary(size, tuple(ngrams), "fewest", self.fingerprint, self.options)

    def _mine(self, budget: int) -> list[Merge]:
        merges: list[Merge] = []
        options = {"base_size": self.spell.base_size, "n_max": self.options["n_max"]}
        with self.progress("mining n-grams", total=budget, unit="n-grams") as advance:
            for merge in mine(self.corpus, self.counts, budget=budget, accept=self.accept, **options):
                merges.append(merge)
                advance(1)
        return merges

    def _ngram(self, ids: tuple[int, ...], parts: tuple[int, ...], count: int, reward: int) -> Ngram:
        return Ngram(ids, parts, count, reward, self.collisions.score(ids), self.spell.text(ids))


class _Clock:
    """Seconds of each stage, by `lap`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


def _check_options(budget: Any, method: str, pcs: float | None) -> None:
    if budget != "auto" and (not isinstance(budget, int) or budget < 1):
        raise OptionError(f"the budget must be 'auto' or at least 1, not {budget!r}")
    if method not in ("paper", "best"):
        raise OptionError(f"the method must be 'paper' or 'best', not {method!r}")
    if pcs is not None and not 0 < pcs <= 1:
        raise OptionError(f"the PCS threshold must be above 0 and at most 1, not {pcs}; use 'off' to switch it off")


def _encode(tasks: Tasks, tokenizer: "PreTrainedTokenizerFast", description: str, progress: Progress) -> TokenCorpus:
    with progress(description, total=len(tasks), unit="rows") as advance:
        return TokenCorpus.encode(tasks.completions, tokenizer, progress=advance)


def _h2(corpus: TokenCorpus) -> float:
    _, counts = np.unique(np.asarray(corpus.tokens), return_counts=True)
    return renyi_entropy(counts, order=2)
