"""A drafter at work for a model: its options, what it learns from request to request, statistics and logs."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.decode.cpu import as_torch_has_it
from tasc.decode.forward import Target
from tasc.decode.speculate import RequestStats, Row
from tasc.draft.adaptive import adaptive
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.interface import Learner
from tasc.draft.options import MAX_DRAFT, Tuned
from tasc.draft.recorded import Recorded, append_log
from tasc.errors import FingerprintError, ModelError, OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tasc.draft.interface import Drafts
    from tasc.vocab.vocabulary import EnrichedVocabulary

Record = Callable[[list[Recorded]], None]


class Drafting:
    """Drafts for the requests of one model.

    It carries over from request to request how well drafts pay (`tasc.draft.control.Control`) and which of the drafter's
    sources to believe (`tasc.draft.adaptive.AdaptiveDrafter`), so give each model and task its own, and do not share one
    between threads; the drafter itself may be shared.

    Args:
        drafter: what proposes, in the ids of the model.
        max_draft: most drafted tokens per row and pass; default: what the drafter was tuned to, else MAX_DRAFT.
        cost: milliseconds of a pass, a curve or its file (`tasc profile`); default: the one that the drafter was tuned
            for if that is of the model's kind of device, else one typical of the device.
        min_gain: by what share a drafted pass must be expected to beat a plain one.
        switch_off: False keeps drafting even while it loses time.
        tree: drafts may hold alternatives to each other, if the drafter has them: more of them fit for as many tokens.
        adapt: let the drafter's weights follow what the model writes; the drafter itself does not change.
        vocabulary: the n-grams the model was trained with. Prompts are in base ids and outputs are not, so the drafter
            is shown the prompt in merged form.
        record: a JSONL log to append each request to, or a function that takes the requests of a batch.

    Attributes:
        requests: statistics of the rows of the last batch, in their order.

    Raises:
        OptionError: a value out of range, or n-grams are missing that the drafter was built with.
        FingerprintError: the drafter was built with other n-grams, or with none.
        DataError: the cost file cannot be used.
    """

    def __init__(
        self,
        drafter: "Drafts",
        *,
        max_draft: int | None = None,
        cost: StepCost | str | os.PathLike[str] | None = None,
        min_gain: float = 0.0,
        switch_off: bool = True,
        tree: bool = True,
        adapt: bool = True,
        vocabulary: "EnrichedVocabulary | None" = None,
        record: str | os.PathLike[str] | Record | None = None,
    ) -> None:
        if not hasattr(drafter, "start"):
            raise OptionError(f"a drafter is needed, got {type(drafter).__name__}; load one with tasc.Drafter.load")
        if vocabulary is not None:
            _check_ngrams(drafter, vocabulary, "the drafter")
        elif _holds_ngrams(drafter):
            raise OptionError(
                "the drafter was built with the n-grams of a model; pass them, vocabulary=tasc.EnrichedVocabulary.load(folder)"
            )
        self._tuned: Tuned | None = getattr(drafter, "tuned", None)
        if max_draft is None:
            max_draft = MAX_DRAFT if self._tuned is None else self._tuned.max_draft
        self.drafter, self.max_draft, self.vocabulary, self.record = drafter, max_draft, vocabulary, record
        self.adapt, self._at_work = adapt, adaptive(drafter) if adapt else drafter
        self.cost = StepCost.load(cost) if isinstance(cost, str | os.PathLike) else cost
        self._options: dict[str, Any] = {
            "max_draft": max_draft,
            "min_gain": min_gain,
            "switch_off": switch_off,
            "tree": tree,
        }
        self._control = None if self.cost is None else Control(self.cost, **self._options)
        Control(StepCost.default(), **self._options)  # out of range shows here, not in the first request
        self._target: Target | None = None
        self.requests: list[RequestStats] = []

    def target(self, model: "PreTrainedModel") -> Target:
        """The model as passes need it.

        Raises:
            ModelError: it cannot be decoded with drafts.
        """
        if self._target is None or self._target.model is not model:
            self._target = Target(model)
        return self._target

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
            curve = curve_for(model.device.type, self._tuned, packed=not as_torch_has_it(model))
            self._control = Control(curve, **self._options)
        return self._control

    def fresh(self, *, record: str | os.PathLike[str] | Record | None = None) -> "Drafting":
        """The same drafter and options with nothing learnt yet, and another log or none."""
        return Drafting(
            self.drafter, cost=self.cost, adapt=self.adapt, vocabulary=self.vocabulary, record=record, **self._options
        )

    def rows(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Row]:
        """Rows to decode, each with its own state of the drafter."""
        rows: list[Row] = []
        begin = time.perf_counter()
        for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
            # a prompt may hold an earlier output of the model, hence in merged form
            seen = list(prompt) if self.vocabulary is None else self.vocabulary.remerge(prompt).tolist()
            rows.append(Row(index, list(prompt), limit, self._at_work.start(seen), seen))
            begin, rows[-1].draft_seconds = time.perf_counter(), time.perf_counter() - begin
        return rows

    def finish(self, rows: Sequence[Row]) -> list[RequestStats]:
        """Statistics of a batch that is done, which the drafter learns from; writes them down where that was asked for."""
        if isinstance(self._at_work, Learner):
            for row in rows:
                begin = time.perf_counter()
                self._at_work.learn(row.seen, row.ids)
                row.draft_seconds += time.perf_counter() - begin
        if self.record is not None:
            recorded = [row.recorded(slot) for slot, row in enumerate(rows)]
            if callable(self.record):
                self.record(recorded)
            else:
                append_log(self.record, recorded, about=self._about())
        self.requests = [RequestStats.of(row) for row in rows]
        return self.requests

    def _about(self) -> dict[str, Any]:
        cost = (self.cost or (self._control and self._control.cost)) or StepCost.default()
        ngrams = "" if self.vocabulary is None else self.vocabulary.digest
        about = {
            "fingerprint": self.drafter.fingerprint,
            "ngrams": ngrams,
            "preset": getattr(self.drafter, "preset", None),
        }
        return about | self._options | {"adapt": self.adapt, "cost": cost.to_json()}


def curve_for(device: str, tuned: Tuned | None, *, packed: bool = True) -> StepCost:
    """The curve to go by on a kind of device ("cuda", "cpu") where none was given: that of a tuned drafter if it fits.

    `packed`: see `StepCost.default`.
    """
    if tuned is not None:
        tuned_for = StepCost.from_json(tuned.cost)
        # "cuda (NVIDIA H200)"; a curve of another kind of device would be worse than a typical one
        if str(tuned_for.about.get("device", device)).split(" ")[0] == device:
            return tuned_for
    return StepCost.default(device, packed=packed)


def summary(requests: Sequence[RequestStats]) -> dict[str, Any]:
    """What drafts did for many requests, ready for JSON.

    Returns:
        `tokens_per_pass`, end tokens counted; `drafted_per_pass`; `acceptance`, the share of the drafted tokens that were
        kept; `acceptance_by_position`, of the first, second, ... place, in what share of the passes whose draft got there a token
        was accepted, and `by_position`, the [passes, accepted] behind it; `by_source`, drafted, accepted and their ratio; `draft_ms_per_output`, `verify_ms_per_output`, and of the latter
        `prefill_ms_per_output`, what the prompt's pass took.

    Raises:
        OptionError: there is no request.
    """
    if not requests:
        raise OptionError("a summary needs at least one request, got none")
    passes, drafted = sum(r.passes for r in requests), sum(r.drafted for r in requests)
    widest = max(len(request.by_position) for request in requests)
    positions = [
        [sum(r.by_position[place][k] for r in requests if place < len(r.by_position)) for k in (0, 1)]
        for place in range(widest)
    ]
    sources: dict[str, list[int]] = {}
    for request in requests:
        for name, counts in request.by_source.items():
            total = sources.setdefault(name, [0, 0])
            total[:] = [total[0] + counts[0], total[1] + counts[1]]
    return {
        "tokens_per_pass": sum(r.tokens for r in requests) / passes,
        "drafted_per_pass": drafted / passes,
        "acceptance": sum(r.accepted for r in requests) / drafted if drafted else None,
        "acceptance_by_position": [accepted / n for n, accepted in positions],
        "by_position": positions,
        "by_source": {
            name: {"drafted": n, "accepted": accepted, "acceptance": accepted / n}
            for name, (n, accepted) in sorted(sources.items())
        },
        "draft_ms_per_output": sum(r.draft_ms for r in requests) / len(requests),
        "verify_ms_per_output": sum(r.verify_ms for r in requests) / len(requests),
        "prefill_ms_per_output": sum(r.prefill_ms for r in requests) / len(requests),
    }


def check_drafter(
    drafter: "Drafts",
    tokenizer: "PreTrainedTokenizerFast",
    vocabulary: "EnrichedVocabulary | None" = None,
    *,
    source: str | Path = "the drafter",
) -> None:
    """Refuse a drafter that was built with another tokenizer, without the model's n-grams or with others.

    Args:
        drafter: what is checked.
        tokenizer: of the model, base or enriched.
        vocabulary: the model's n-grams, if it has some.
        source: what the message calls the drafter.

    Raises:
        FingerprintError: with both fingerprints.
    """
    from tasc.corpus import fingerprint

    # an empty one fits any tokenizer; texts of a model with n-grams are encoded by its base tokenizer
    named = "" if vocabulary is None else vocabulary.fingerprint
    fitting = {"", named or fingerprint(tokenizer)}
    if drafter.fingerprint not in fitting:
        raise FingerprintError(
            f"{source} was built with tokenizer {drafter.fingerprint}, the model has {' or '.join(sorted(fitting - {''}))}; "
            "build it again with 'tasc draft build' and the model's tokenizer"
        )
    origin: Any = getattr(drafter, "origin", None)
    if vocabulary is None and _holds_ngrams(drafter):
        raise FingerprintError(
            f"{source} was built with the n-grams of {origin.vocabulary or 'an enriched model'}, the model has none; "
            "build it again with this model's folder as --tokenizer, and without --vocab"
        )
    if vocabulary is not None:
        _check_ngrams(drafter, vocabulary, source)


def _holds_ngrams(drafter: Any) -> bool:
    origin = getattr(drafter, "origin", None)
    return origin is not None and bool(origin.vocabulary or origin.ngrams)


def _check_ngrams(drafter: Any, vocabulary: "EnrichedVocabulary", source: str | Path) -> None:
    """Refuse a drafter of other n-grams than these, or of none."""
    origin = getattr(drafter, "origin", None)
    if origin is not None and origin.ngrams not in ("", vocabulary.digest):
        raise FingerprintError(
            f"{source} was built with other n-grams, of {origin.vocabulary or 'another model'}; build it again with "
            "'tasc draft build' and this model's folder as --tokenizer"
        )
    if drafter.vocab_size < vocabulary.size:
        raise FingerprintError(
            f"{source} was built without the model's n-grams; build it again with 'tasc draft build' and this model's "
            "folder as --tokenizer"
        )
