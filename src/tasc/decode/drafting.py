"""A drafter at work for a model: its options, what it learns from request to request, statistics and logs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.decode.speculate import RequestStats, Row
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.recorded import Recorded, append_log
from tasc.errors import FingerprintError, ModelError, OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tasc.draft import Drafter
    from tasc.vocab.vocabulary import EnrichedVocabulary

Record = Callable[[list[Recorded]], None]


class Drafting:
    """Drafts for the requests of one model.

    It carries over from request to request how well drafts pay (`tasc.draft.control.Control`), so give each model and
    task its own, and do not share one between threads; the drafter itself may be shared.

    Args:
        drafter: what proposes, in the ids of the model.
        max_draft: most drafted tokens per row and pass.
        cost: milliseconds of a pass, a curve or its file (`tasc profile`); default: one typical of the device.
        min_gain: by what share a drafted pass must be expected to beat a plain one.
        switch_off: False keeps drafting even while it loses time.
        vocabulary: the n-grams the model was trained with. Prompts are in base ids and outputs are not, so the drafter
            is shown the prompt in merged form.
        record: a JSONL log to append each request to, or a function that takes the requests of a batch.

    Attributes:
        requests: statistics of the last call's rows, in their order.

    Raises:
        OptionError: a value out of range.
        DataError: the cost file cannot be used.
    """

    def __init__(
        self,
        drafter: "Drafter",
        *,
        max_draft: int = 10,
        cost: StepCost | str | os.PathLike[str] | None = None,
        min_gain: float = 0.0,
        switch_off: bool = True,
        vocabulary: "EnrichedVocabulary | None" = None,
        record: str | os.PathLike[str] | Record | None = None,
    ) -> None:
        if not hasattr(drafter, "start"):
            raise OptionError(f"a drafter is needed, got {type(drafter).__name__}; load one with tasc.Drafter.load")
        self.drafter, self.max_draft, self.vocabulary, self.record = drafter, max_draft, vocabulary, record
        self.cost = StepCost.load(cost) if isinstance(cost, str | os.PathLike) else cost
        self._options: dict[str, Any] = {"max_draft": max_draft, "min_gain": min_gain, "switch_off": switch_off}
        self._control = None if self.cost is None else Control(self.cost, **self._options)
        Control(StepCost.default(), **self._options)  # out of range shows here, not in the first request
        self.requests: list[RequestStats] = []

    def control(self, model: "PreTrainedModel") -> Control:
        """What decides the lengths of drafts; made for the model's device when it is first asked for.

        Raises:
            ModelError: the drafter's ids are not the model's.
        """
        n_rows = model.config.get_text_config().vocab_size
        if self.drafter.vocab_size > n_rows:
            raise ModelError(
                f"the drafter has {self.drafter.vocab_size} ids, the model {n_rows} rows; use the drafter that was built "
                "with this model's tokenizer"
            )
        if self._control is None:
            self._control = Control(StepCost.default(model.device.type), **self._options)
        return self._control

    def rows(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Row]:
        """Rows to decode, each with its own state of the drafter."""
        rows = []
        for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
            seen = None if self.vocabulary is None else _merged(self.vocabulary, prompt)
            state = self.drafter.start(list(prompt) if seen is None else seen)
            rows.append(Row(index, list(prompt), limit, state, seen))
        return rows

    def finish(self, rows: Sequence[Row]) -> list[RequestStats]:
        """Statistics of a batch that is done; writes them down where that was asked for."""
        if self.record is not None:
            recorded = [row.recorded(slot) for slot, row in enumerate(rows)]
            if callable(self.record):
                self.record(recorded)
            else:
                append_log(self.record, recorded, about=self._about())
        names = source_names()
        return [RequestStats.of(row, names) for row in rows]

    def _about(self) -> dict[str, Any]:
        cost = (self.cost or (self._control and self._control.cost)) or StepCost.default()
        about = {"fingerprint": self.drafter.fingerprint, "preset": getattr(self.drafter, "preset", None)}
        return about | self._options | {"cost": cost.to_json()}


def _merged(vocabulary: "EnrichedVocabulary", prompt: Sequence[int]) -> list[int]:
    # written out first: the prompt may hold an earlier output of the model
    return vocabulary.merge(vocabulary.expand(list(prompt))).tolist()


def source_names() -> Sequence[str]:
    """Names of the codes in `Draft.sources`."""
    from tasc import draft

    return getattr(draft, "SOURCES", ())


def check_drafter(
    drafter: "Drafter",
    tokenizer: "PreTrainedTokenizerFast",
    vocabulary: "EnrichedVocabulary | None" = None,
    *,
    source: str | Path = "the drafter",
) -> None:
    """Refuse a drafter that was built with another tokenizer, or without the model's n-grams.

    Raises:
        FingerprintError: with both fingerprints.
    """
    from tasc.corpus import fingerprint

    fitting = {fingerprint(tokenizer)} | (set() if vocabulary is None else {vocabulary.fingerprint})
    if drafter.fingerprint not in fitting:
        raise FingerprintError(
            f"{source} was built with tokenizer {drafter.fingerprint}, the model has {' or '.join(sorted(fitting))}; "
            "build it again with 'tasc draft build' and the model's tokenizer"
        )
    if vocabulary is not None and drafter.vocab_size < vocabulary.size:
        raise FingerprintError(
            f"{source} knows {drafter.vocab_size} ids, the model's vocabulary with n-grams has {vocabulary.size}; build "
            "it again with 'tasc draft build --vocab'"
        )
