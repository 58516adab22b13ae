"""Write the completions of task rows: rows in, texts out, with what they cost in tokens, passes and time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasc.corpus import Row, Template, make_template
from tasc.decode.drafting import Drafting, summary
from tasc.decode.generate import Generated
from tasc.decode.load import device_name
from tasc.decode.timing import Timing, timed_generate
from tasc.vocab.vocabulary import EnrichedVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# room for outputs longer than any reference; a model that does not stop must not run on for long
REFERENCE_FACTOR = 1.5
NO_REFERENCE = 256  # ids of an output at most, where no row says how long outputs are


@dataclass(frozen=True, slots=True)
class Completions:
    """Completions of rows, in their order.

    Attributes:
        texts: the completions.
        tokens: their lengths in base tokens (n-grams written out), end token not counted.
        generated: ids, passes and times.
        timing: milliseconds per output of each repetition.
        adoption: see `adoption`; None where there was nothing to adopt.
        settings: batch size, device, dtype, threads, most new tokens, template.
    """

    texts: list[str]
    tokens: list[int]
    generated: Generated
    timing: Timing
    adoption: float | None
    settings: dict[str, Any]

    def speed(self) -> dict[str, Any]:
        """Means per output, ready for JSON."""
        n = len(self.texts)
        n_bytes = sum(len(text.encode()) for text in self.texts)
        return {
            "n": n,
            "tokens_per_output": sum(self.tokens) / n,
            "passes_per_output": self.generated.passes_per_output,
            "ms_per_output": self.timing.median,
            "ms_per_output_range": [self.timing.low, self.timing.high],
            "ms_per_byte": self.timing.median * n / n_bytes if n_bytes else None,
            "bytes_per_output": n_bytes / n,
            "adoption": self.adoption,
            "unfinished": self.generated.ended.count(False) / n,
            **({"drafts": summary(self.generated.requests)} if self.generated.requests else {}),
            **self.settings,
        }


def complete(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    rows: Sequence[Row],
    *,
    vocabulary: EnrichedVocabulary | None = None,
    template: Template | str = "auto",
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    repeats: int = 1,
    drafting: Drafting | None = None,
    progress: Callable[[int], None] | None = None,
) -> Completions:
    """Write the completion of each row greedily, after a warm-up that is not timed.

    Args:
        model: decoder-only; on its device, in its dtype.
        tokenizer: the model's, base or enriched.
        rows: only their prompts are read, and their completions for the default of `max_new_tokens`.
        vocabulary: the n-grams the model was trained with.
        template: how prompts are written; the same as in training.
        batch_size: most rows in one forward pass.
        max_new_tokens: in ids of the model, n-grams count as one; default `default_max_new_tokens`.
        repeats: how often to measure; the outputs are the same each time.
        drafting: drafts to decode with (`tasc.speculative`); the outputs stay the same.
        progress: called with the rows finished, `repeats * len(rows)` in all.

    Raises:
        DataError, ModelError, OptionError: see `tasc.decode.generate`.
    """
    import torch

    chosen = template if isinstance(template, Template) else make_template(tokenizer, template)
    limit = default_max_new_tokens(chosen, rows) if max_new_tokens is None else max_new_tokens
    generated, timing = timed_generate(
        model,
        chosen.encode_prompts(rows),
        repeats=repeats,
        batch_size=batch_size,
        max_new_tokens=limit,
        eos_id=end_ids(model, chosen),
        pad_id=chosen.eos_id,
        vocabulary=vocabulary,
        drafting=drafting,
        progress=progress,
    )
    # n-grams written out: the texts do not depend on the tokenizer's copy of them
    base = generated.outputs if vocabulary is None else [vocabulary.expand(ids).tolist() for ids in generated.outputs]
    texts = [tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in base]
    settings = {
        "batch_size": batch_size,
        "device": device_name(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "max_new_tokens": limit,
        "template": chosen.name,
    }
    return Completions(
        [str(text) for text in texts],
        [len(ids) for ids in base],
        generated,
        timing,
        adoption(generated.outputs, vocabulary),
        settings,
    )


def end_ids(model: "PreTrainedModel", template: Template) -> frozenset[int]:
    """The template's end token and those that the model's own generation settings name."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    named = [] if own is None else [own] if isinstance(own, int) else list(own)
    return frozenset([template.eos_id, *named])


def default_max_new_tokens(template: Template, rows: Sequence[Row]) -> int:
    """1.5 times the longest reference in base tokens, and the end token; without any reference NO_REFERENCE.

    Base tokens also for a model with n-grams, so that one that never emits them is not cut short.
    """
    longest = max(map(len, template.encode_completions([row.completion for row in rows])), default=0)
    return math.ceil(REFERENCE_FACTOR * longest) + 1 if longest else NO_REFERENCE


def adoption(outputs: Sequence[Sequence[int]], vocabulary: EnrichedVocabulary | None) -> float | None:
    """The share of the tokens that n-grams could have saved in these outputs that they did save.

    With e emitted ids, b base ids (n-grams written out) and m ids of the base ids merged again, summed over the
    outputs: (b - e) / (b - m), which is 1 - (e - m) / (b - m). 1: every n-gram that fits was emitted as one id; 0: all
    was spelt in base ids. Another segmentation can beat the merge pass, so slightly above 1 is possible.

    Args:
        outputs: model ids of each output.
        vocabulary: None gives None.

    Returns:
        None where no n-gram fits any output.

    Examples:
        >>> from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
        >>> vocabulary = EnrichedVocabulary(10, (Ngram((1, 2, 3), (1, 2, 3)),))
        >>> adoption([[10, 5], [1, 2, 3, 5]], vocabulary)
        0.5
    """
    if vocabulary is None:
        return None
    emitted = base = merged = 0
    for ids in outputs:
        written_out = vocabulary.expand(np.asarray(ids, np.int32))
        emitted += len(ids)
        base += len(written_out)
        merged += len(vocabulary.merge(written_out))
    return (base - emitted) / (base - merged) if base > merged else None
