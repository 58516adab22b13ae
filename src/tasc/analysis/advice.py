"""From predictions to advice. The thresholds and where they come from are documented in docs/analyze.md.

They look only at what was measured on held-out outputs: decoding steps saved by n-gram tokens, tokens per target pass of
a drafter, and the length of the outputs. Entropies describe a task; they decide nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasc.analysis.drafting import DraftEstimate
from tasc.analysis.shortening import Shortening

Verdict = Literal["nothing-to-gain", "tasc-ft", "tasc-spec", "not-worth-it"]

# outputs this short spend their time in prefill and the end token: 3 tokens and EOS can at best become 2 steps
SINGLE_LABEL_TOKENS = 3.0
# steps saved that pay for a fine-tuning with new rows, within the budget that the paper calls effective
FT_STEPS_RATIO = 1.5
FT_BUDGET = 500
# below this a draft saves too little to pay for its verification even where a longer pass costs nearly nothing (a GPU)
SPEC_TOKENS_PER_PASS = 1.5
# more n-grams must earn their rows: take the smallest budget within 10% of the fewest steps seen
NEAR_BEST = 1.10
# a new token seen less often in training is hard to learn (the paper's drafter drops n-grams below 5, too)
MIN_SEEN = 5
ROUGH_BELOW_ROWS = 100


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do.

    Attributes:
        verdict: `"nothing-to-gain"` (outputs too short), `"tasc-ft"`, `"tasc-spec"` or `"not-worth-it"`.
        budget: the budget M to start TASC-ft with; None for the other verdicts.
        text: the advice in plain words with its numbers.
    """

    verdict: Verdict
    budget: int | None
    text: str


def recommend(
    shortening: Sequence[Shortening], drafting: DraftEstimate, *, tokens_mean: float, rows: int
) -> Recommendation:
    """Choose one of the four verdicts.

    Args:
        shortening: predictions by budget, in ascending order.
        drafting: the drafter's replay.
        tokens_mean: tokens per held-out output, EOS not counted.
        rows: held-out rows.
    """
    verdict = _verdict(shortening, drafting, tokens_mean)
    chosen = near_best(shortening) if verdict == "tasc-ft" else None
    text = _TEXTS[verdict](chosen or _largest(shortening), drafting, tokens_mean)
    if rows < ROUGH_BELOW_ROWS:
        text += f" Only {rows} held-out rows: take the figures as rough."
    return Recommendation(verdict, chosen.budget if chosen else None, text)


def near_best(shortening: Sequence[Shortening]) -> Shortening:
    """The smallest budget whose steps are within 10% of the fewest, among those whose n-grams all occur 5 times."""
    learnable = [s for s in shortening if s.rarest_count >= MIN_SEEN] or shortening[:1]
    best = max(s.steps_ratio for s in learnable)
    return next(s for s in learnable if s.steps_ratio * NEAR_BEST >= best)


def _verdict(shortening: Sequence[Shortening], drafting: DraftEstimate, tokens_mean: float) -> Verdict:
    if tokens_mean <= SINGLE_LABEL_TOKENS:
        return "nothing-to-gain"
    if any(s.steps_ratio >= FT_STEPS_RATIO for s in shortening if s.budget <= FT_BUDGET):
        return "tasc-ft"
    if drafting.tokens_per_pass >= SPEC_TOKENS_PER_PASS:
        return "tasc-spec"
    return "not-worth-it"


def _largest(shortening: Sequence[Shortening]) -> Shortening | None:
    return shortening[-1] if shortening else None


def _nothing_to_gain(ft: Shortening | None, drafting: DraftEstimate, tokens_mean: float) -> str:
    return (
        f"Nothing to gain: an output has {tokens_mean:.1f} tokens on average, so nearly all time goes into reading the "
        "prompt. A classifier head, or a smaller model, would help more."
    )


def _tasc_ft(ft: Shortening | None, drafting: DraftEstimate, tokens_mean: float) -> str:
    assert ft is not None
    return (
        f"Use TASC-ft with a budget of {ft.budget:,}: the outputs repeat the same n-grams, and "
        f"{ft.added:,} n-gram tokens shorten held-out outputs from {tokens_mean:.1f} to {ft.tokens_per_output:.1f} tokens ({ft.ratio:.2f}x; "
        f"{ft.steps_ratio:.2f}x fewer decoding steps with the end token). "
        f"TASC-spec needs no training: a simple n-gram drafter already gives {drafting.tokens_per_pass:.2f} tokens per "
        "pass at batch 1."
    )


def _tasc_spec(ft: Shortening | None, drafting: DraftEstimate, tokens_mean: float) -> str:
    return (
        f"Use TASC-spec: an n-gram drafter from the training outputs gives {drafting.tokens_per_pass:.2f} tokens per "
        f"pass on held-out outputs ({drafting.top1_accuracy:.0%} of the tokens predicted). The outputs are too varied "
        f"for a token budget{_ft_clause(ft)}. It pays at small batches on a GPU; on a CPU verifying a draft costs time too."
    )


def _not_worth_it(ft: Shortening | None, drafting: DraftEstimate, tokens_mean: float) -> str:
    return (
        f"Not worth it: the outputs vary like free text. A drafter from the training outputs gives only "
        f"{drafting.tokens_per_pass:.2f} tokens per pass on held-out outputs ({drafting.top1_accuracy:.0%} of the "
        f"tokens predicted), and n-gram tokens save little{_ft_clause(ft)}. Plain decoding is the better choice."
    )


def _ft_clause(ft: Shortening | None) -> str:
    return f": {ft.added:,} n-gram tokens give only {ft.steps_ratio:.2f}x fewer decoding steps" if ft else ""


_TEXTS = {
    "nothing-to-gain": _nothing_to_gain,
    "tasc-ft": _tasc_ft,
    "tasc-spec": _tasc_spec,
    "not-worth-it": _not_worth_it,
}
