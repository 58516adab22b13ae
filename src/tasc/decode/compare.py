"""Plain and drafted decoding of the same rows, in turn, so that what slows the machine down meets both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasc.corpus import Row, Template, make_template
from tasc.decode.drafting import Drafting, summary
from tasc.decode.generate import Generated, generate
from tasc.decode.load import device_name
from tasc.decode.tasks import default_max_new_tokens, end_ids
from tasc.decode.timing import WARM_UP_PASSES, Timing
from tasc.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tasc.decode.speculate import RequestStats


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both ways of decoding, measured round by round.

    Attributes:
        plain: milliseconds per output without drafts, one value a round.
        drafted: the same with drafts.
        different: numbers of the rows whose ids differed in any round.
        passes: mean forward passes per output, plain and drafted.
        prefill_ms: milliseconds per output that the prompts' passes took in the first round, plain and drafted.
        requests: statistics of the drafts in the first round.
        settings: what both had in common.
    """

    plain: Timing
    drafted: Timing
    different: list[int]
    passes: tuple[float, float]
    prefill_ms: tuple[float, float]
    requests: "list[RequestStats]"
    settings: dict[str, Any]

    @property
    def speedups(self) -> Timing:
        """Plain over drafted time of each round."""
        return Timing(tuple(a / b for a, b in zip(self.plain.values, self.drafted.values, strict=True)))

    def report(self) -> dict[str, Any]:
        """The comparison, ready for JSON."""
        return {
            "n": len(self.requests),
            "identical": not self.different,
            "different_rows": self.different,
            "speedup": self.speedups.median,
            "speedup_range": [self.speedups.low, self.speedups.high],
            "ms_per_output": {"plain": self.plain.median, "speculative": self.drafted.median},
            "ms_per_output_range": {
                "plain": [self.plain.low, self.plain.high],
                "speculative": [self.drafted.low, self.drafted.high],
            },
            "passes_per_output": {"plain": self.passes[0], "speculative": self.passes[1]},
            **summary(self.requests),
            "prefill_ms_per_output": {"plain": self.prefill_ms[0], "speculative": self.prefill_ms[1]},
            **self.settings,
        }


def compare(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    rows: Sequence[Row],
    drafting: Drafting,
    *,
    template: Template | str = "auto",
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    repeats: int = 3,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Decode each batch plainly and with drafts, one after the other, `repeats` times, after a warm-up of both.

    Args:
        model: decoder-only; on its device, in its dtype.
        tokenizer: the model's, base or enriched.
        rows: only their prompts are read, and their completions for the default of `max_new_tokens`.
        template: how prompts are written; the same as in training.
        batch_size: rows in one forward pass.
        max_new_tokens: in ids of the model, n-grams count as one; default `default_max_new_tokens`.
        drafting: drafts to decode with; each round begins with a fresh copy, the first one is recorded.
        repeats: rounds over all rows.
        progress: called with the rows finished, `2 * repeats * len(rows)` in all.

    Raises:
        OptionError: `repeats` below 1.
        DataError, ModelError: see `tasc.decode.generate`.
    """
    import torch

    if repeats < 1:
        raise OptionError(f"repeats must be at least 1, got {repeats}")
    chosen = template if isinstance(template, Template) else make_template(tokenizer, template)
    limit = default_max_new_tokens(chosen, rows) if max_new_tokens is None else max_new_tokens
    prompts = chosen.encode_prompts(rows)
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "eos_id": end_ids(model, chosen),
        "pad_id": chosen.eos_id,
        "vocabulary": drafting.vocabulary,
    }

    def run(batch: list[int], drafter: Drafting | None, most: int = limit) -> Generated:
        return generate(model, [prompts[row] for row in batch], max_new_tokens=most, drafter=drafter, **options)

    for drafter in (None, drafting.fresh()):
        run(batches[0], drafter, min(WARM_UP_PASSES, limit))
    seconds: tuple[list[float], list[float]] = ([], [])
    passes, prefill = [0, 0], [0.0, 0.0]
    different: set[int] = set()
    requests: dict[int, Any] = {}
    for repeat in range(repeats):
        fresh = drafting.fresh(record=None if repeat else drafting.record)
        spent = [0.0, 0.0]
        for number, batch in enumerate(batches):
            done: dict[int, Generated] = {}
            for way in (0, 1) if (number + repeat) % 2 == 0 else (1, 0):  # neither always runs on warm caches
                done[way] = run(batch, fresh if way else None)
                spent[way] += sum(done[way].seconds)
                if progress is not None:
                    progress(len(batch))
            pairs = zip(batch, done[0].outputs, done[1].outputs, strict=True)
            different |= {row for row, plain, drafted in pairs if plain != drafted}
            if not repeat:
                passes = [total + sum(done[way].passes) for way, total in enumerate(passes)]
                prefill = [total + sum(done[way].prefill_ms) for way, total in enumerate(prefill)]
                requests |= dict(zip(batch, done[1].requests, strict=True))
        for way, total in enumerate(spent):
            seconds[way].append(1000 * total / len(prompts))
    return Comparison(
        plain=Timing(tuple(seconds[0])),
        drafted=Timing(tuple(seconds[1])),
        different=sorted(different),
        passes=(passes[0] / len(prompts), passes[1] / len(prompts)),
        prefill_ms=(prefill[0] / len(prompts), prefill[1] / len(prompts)),
        requests=[requests[row] for row in range(len(prompts))],
        settings={
            "batch_size": batch_size,
            "device": device_name(model),
            "dtype": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "max_new_tokens": limit,
            "max_draft": drafting.max_draft,
            "template": chosen.name,
        },
    )
