"""How much shorter would held-out outputs be with M n-grams? One mining run on the training outputs answers for all M."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasc.corpus import TokenCorpus
from tasc.corpus.variability import ngram_counts, renyi_entropy
from tasc.errors import TokenizerError
from tasc.vocab import EnrichedVocabulary, Ngram, mine
from tasc.vocab.tokenizer import speller

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BUDGETS = (150, 250, 500, 1000)


@dataclass(frozen=True, slots=True)
class Shortening:
    """Held-out outputs with the first n-grams of a mining run (Algorithm 1, PCS off).

    Attributes:
        budget: M, the number of n-grams asked for.
        added: the number found; fewer where the training outputs hold no more that occur twice.
        tokens_per_output: mean, EOS not counted.
        ratio: tokens before over tokens after, EOS not counted.
        steps_ratio: decoding steps before over after, the step that writes EOS counted: the upper bound of the speed-up.
        h2_nats: Renyi entropy of order 2 of the merged held-out tokens.
        rarest_count: occurrences in training of the rarest n-gram, when it was chosen; rare ones are hard to train.
        tokens_se: standard error of `tokens_per_output` over the held-out rows.
    """

    budget: int
    added: int
    tokens_per_output: float
    ratio: float
    steps_ratio: float
    h2_nats: float
    rarest_count: int
    tokens_se: float = 0.0


def predict_shortening(
    train: TokenCorpus,
    held_out: TokenCorpus,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    budgets: Sequence[int] = BUDGETS,
    n_max: int = 4,
    advance: Callable[[int], None] | None = None,
) -> tuple[Shortening, ...]:
    """Mine the training outputs once and segment the held-out outputs for each budget.

    Args:
        train: base ids of the training outputs.
        held_out: base ids of the held-out outputs, at least one token.
        tokenizer: says which n-grams may become tokens and how many base ids there are.
        budgets: values of M.
        n_max: longest n-gram over the current segmentation.
        advance: called with 1 for each n-gram mined.
    """
    base_size = 1 + max(tokenizer.get_vocab().values())
    unique, counts = train.unique()
    merges = mine(
        unique,
        counts,
        budget=max(budgets, default=0),
        base_size=base_size,
        n_max=n_max,
        accept=_acceptor(tokenizer),
    )
    ngrams: list[Ngram] = []
    for merge in merges:
        ngrams.append(Ngram(merge.ids, merge.parts, count=merge.count, reward=merge.reward))
        if advance is not None:
            advance(1)
    return tuple(_shortening(held_out, ngrams[:budget], base_size, budget) for budget in budgets)


def _acceptor(tokenizer: "PreTrainedTokenizerFast") -> Callable[[tuple[int, ...]], bool]:
    """Whether an n-gram may become a token, as `tasc.vocab.enrich` decides it; of a tokenizer that it refuses all but specials may."""
    try:
        spell = speller(tokenizer).spell
    except TokenizerError:
        specials = frozenset(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
        return specials.isdisjoint
    spelt: dict[str, tuple[int, ...]] = {}  # a spelling belongs to the first n-gram that asks for it

    def accept(ids: tuple[int, ...]) -> bool:
        spelling = spell(ids)
        return spelling is not None and spelt.setdefault(spelling, ids) == ids

    return accept


def _shortening(held_out: TokenCorpus, ngrams: list[Ngram], base_size: int, budget: int) -> Shortening:
    merged = EnrichedVocabulary(base_size, tuple(ngrams), fingerprint=held_out.fingerprint).merge_corpus(held_out)
    rows = len(held_out)
    return Shortening(
        budget=budget,
        added=len(ngrams),
        tokens_per_output=merged.n_tokens / rows,
        ratio=held_out.n_tokens / merged.n_tokens,
        steps_ratio=(held_out.n_tokens + rows) / (merged.n_tokens + rows),
        h2_nats=renyi_entropy(ngram_counts(merged, 1), 2),
        rarest_count=min((ngram.count for ngram in ngrams), default=0),
        tokens_se=float(merged.lengths.std(ddof=1) / rows**0.5) if rows > 1 else 0.0,
    )
