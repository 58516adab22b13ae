"""Analyse a task before any training: how variable are its inputs and outputs, and what would shorter outputs save?

Measures of the paper's Table 1 (word bigrams), the token statistics of its section on predicting the gain, and two
predictions on held-out outputs: a mining run (TASC-ft) and an n-gram drafter (TASC-spec).
"""

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasc.analysis.advice import Recommendation, recommend
from tasc.analysis.drafting import N_MAX, DraftEstimate, estimate_drafting
from tasc.analysis.shortening import BUDGETS, Shortening, predict_shortening
from tasc.corpus import Row, Tasks, TokenCorpus, held_out_rows, load_held_out, load_tasks, load_tokenizer, shared_rows
from tasc.corpus.data import HELD_OUT_SHARE
from tasc.corpus.variability import (
    NgramStats,
    length_quantiles,
    ngram_counts,
    ngram_stats,
    renyi_entropy,
    word_ids,
)
from tasc.progress import Progress, silent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKEN_NGRAMS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class TextStats:
    """Variability of one side of the task, prompts or completions, without template and EOS.

    Attributes:
        distinct: different texts.
        tokens_mean: tokens per text.
        tokens_quantiles: tokens per text at p0, p5, p25, p50, p75, p95, p99, p100.
        bigram_entropy_bits: Shannon entropy of the whitespace-word bigrams within a text.
        bigrams_distinct: different word bigrams.
        bigrams_cdf80: how many of the most frequent word bigrams make up 80% of all.
        bigrams_typical_set: exp(H) of the word bigrams, H in nats.
        shannon_nats: Shannon entropy of the tokens.
        h2_nats: Renyi entropy of order 2 of the tokens.
        normalised_entropy: Shannon entropy of the tokens over log of the vocabulary size, 0 to 1.
        token_ngrams: the same measures for token n-grams, n = 1 to 4.
    """

    distinct: int
    tokens_mean: float
    tokens_quantiles: dict[str, float]
    bigram_entropy_bits: float
    bigrams_distinct: int
    bigrams_cdf80: int
    bigrams_typical_set: float
    shannon_nats: float
    h2_nats: float
    normalised_entropy: float
    token_ngrams: tuple[NgramStats, ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the predictions were measured on.

    Attributes:
        source: the eval file, or how the rows were chosen.
        rows: held-out rows.
        shared_with_train: distinct held-out rows that also stand in the training rows.
    """

    source: str
    rows: int
    shared_with_train: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """What `analyze` found.

    Attributes:
        source: where the rows came from.
        rows: usable rows.
        skipped: bad rows left out.
        input: the prompts.
        output: the completions.
        delta_entropy: relative difference of the word-bigram entropies, output against input; -0.38 is 38% less. None
            where the inputs have no entropy.
        cdf80_ratio: word bigrams that cover 80% of the inputs over those of the outputs; None without bigrams.
        h2_nats: Renyi entropy of order 2 of the output tokens, before any merging.
        held_out: what the predictions below were measured on.
        predicted_shortening: held-out outputs by budget.
        drafting: a corpus-only drafter on held-out outputs.
        recommendation: what to do, with the numbers.
    """

    source: str
    rows: int
    skipped: int
    input: TextStats
    output: TextStats
    delta_entropy: float | None
    cdf80_ratio: float | None
    h2_nats: float
    held_out: HeldOut
    predicted_shortening: tuple[Shortening, ...]
    drafting: DraftEstimate
    recommendation: Recommendation

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and strings."""
        return asdict(self)


def analyze(
    tasks: str | os.PathLike[str] | Tasks,
    tokenizer: "PreTrainedTokenizerFast | str | os.PathLike[str]",
    *,
    eval_tasks: str | os.PathLike[str] | Tasks | None = None,
    budgets: Iterable[int] = BUDGETS,
    n_max: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse a task.

    Args:
        tasks: training rows, or where `load_tasks` finds them.
        tokenizer: a fast tokenizer, or the name or folder of one.
        eval_tasks: held-out rows, so too; without them a tenth of the distinct rows is held out of `tasks`.
        budgets: numbers of n-grams (M) to predict the shortening for.
        n_max: longest n-gram of the mining run.
        seed: chooses the held-out rows.
        progress: shows how far each stage is (see `tasc.progress`).
    """
    show = progress or silent
    if isinstance(tasks, str | os.PathLike):
        tasks = load_tasks(tasks)
    if isinstance(eval_tasks, str | os.PathLike):
        eval_tasks = load_held_out(eval_tasks)
    tokenizer = load_tokenizer(tokenizer)
    outputs = _encode("outputs", tasks.completions, tokenizer, show)
    output_stats = _text_stats("outputs", tasks.completions, outputs, len(tokenizer), show)
    input_stats = _input_stats(tasks, tokenizer, show)
    if eval_tasks is None:
        train, held_out, where = _hold_out(tasks, outputs, seed)
    else:
        train, held_out = outputs, _encode("eval outputs", eval_tasks.completions, tokenizer, show)
        where = HeldOut(eval_tasks.source, len(eval_tasks), shared_rows(tasks, eval_tasks))
    budgets = sorted(set(budgets))
    with show("mining n-grams", total=max(budgets, default=0), unit="n-grams") as advance:
        shortening = predict_shortening(train, held_out, tokenizer, budgets=budgets, n_max=n_max, advance=advance)
    with show("replaying a drafter", total=N_MAX - 1, unit="orders") as advance:
        drafting = estimate_drafting(train, held_out, advance=advance)
    return Analysis(
        source=tasks.source,
        rows=len(tasks),
        skipped=tasks.n_skipped,
        input=input_stats,
        output=output_stats,
        delta_entropy=_relative(output_stats.bigram_entropy_bits, input_stats.bigram_entropy_bits),
        cdf80_ratio=_ratio(input_stats.bigrams_cdf80, output_stats.bigrams_cdf80),
        h2_nats=output_stats.h2_nats,
        held_out=where,
        predicted_shortening=shortening,
        drafting=drafting,
        recommendation=recommend(shortening, drafting, tokens_mean=_mean_length(held_out), rows=where.rows),
    )


def _encode(what: str, texts: list[str], tokenizer: "PreTrainedTokenizerFast", show: Progress) -> TokenCorpus:
    with show(f"encoding {what}", total=len(texts), unit="rows") as advance:
        return TokenCorpus.encode(texts, tokenizer, progress=advance)


def _input_text(row: Row) -> str:
    """The prompt without template; of a chat all turns before the completion."""
    return row.prompt if row.messages is None else "\n".join(turn["content"] for turn in row.messages)


def _input_stats(tasks: Tasks, tokenizer: "PreTrainedTokenizerFast", show: Progress) -> TextStats:
    """Apart from `analyze` so that the ids of the inputs, most of the memory, are gone before the mining."""
    texts = [_input_text(row) for row in tasks]
    return _text_stats("inputs", texts, _encode("inputs", texts, tokenizer, show), len(tokenizer), show)


def _text_stats(what: str, texts: list[str], corpus: TokenCorpus, vocabulary_size: int, show: Progress) -> TextStats:
    with show(f"measuring {what}", total=1 + len(TOKEN_NGRAMS), unit="measures") as advance:
        words = ngram_stats(word_ids(texts), 2)
        advance(1)
        token_ngrams = []
        for n in TOKEN_NGRAMS:
            token_ngrams.append(ngram_stats(corpus, n))
            advance(1)
    token_counts = ngram_counts(corpus, 1)
    shannon = renyi_entropy(token_counts)
    return TextStats(
        distinct=len(set(texts)),
        tokens_mean=_mean_length(corpus),
        tokens_quantiles=length_quantiles(corpus),
        bigram_entropy_bits=words.entropy_bits,
        bigrams_distinct=words.distinct,
        bigrams_cdf80=words.cdf80,
        bigrams_typical_set=words.typical_set_size,
        shannon_nats=shannon,
        h2_nats=renyi_entropy(token_counts, 2),
        normalised_entropy=shannon / math.log(vocabulary_size) if vocabulary_size > 1 else 0.0,
        token_ngrams=tuple(token_ngrams),
    )


def _hold_out(tasks: Tasks, outputs: TokenCorpus, seed: int) -> tuple[TokenCorpus, TokenCorpus, HeldOut]:
    """Training outputs, held-out outputs."""
    apart = held_out_rows(tasks, seed=seed)
    if not apart.any():
        return outputs, outputs, HeldOut("the training rows (one distinct row)", len(tasks), min(len(tasks), 1))
    held_out = outputs.take(np.flatnonzero(apart))
    where = HeldOut(f"{HELD_OUT_SHARE:.0%} of the distinct rows, not mined", len(held_out), 0)
    return outputs.take(np.flatnonzero(~apart)), held_out, where


def _mean_length(corpus: TokenCorpus) -> float:
    return corpus.n_tokens / len(corpus) if len(corpus) else 0.0


def _relative(value: float, base: float) -> float | None:
    return (value - base) / base if base else None


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None
