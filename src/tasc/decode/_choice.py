"""How transformers' `generate` chooses tokens and ends rows, for passes that bring several tokens.

Logits processors and stopping criteria are called as plain decoding calls them: with the row's true ids up to the place
in question. Rows have different lengths, so they are called row by row; those that do not look at the ids at all are
called once for a whole pass.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.generation import logits_process, stopping_criteria

from tasc.decode.speculate import Row, most_likely
from tasc.draft.verify import Planned, accepted, kept, until_end
from tasc.errors import OptionError


def _named(*names: str) -> tuple[type, ...]:
    # not every version of transformers has them all
    return tuple(getattr(logits_process, name) for name in names if hasattr(logits_process, name))


# these do not look at the ids, and treat every row of scores alone
_BLIND = _named(
    *(f"{name}LogitsWarper" for name in ("Temperature", "TopP", "TopK", "MinP", "Typical", "Epsilon", "Eta")),
    *("LogitNormalization", "InfNanRemoveLogitsProcessor", "SuppressTokensLogitsProcessor"),
)
# these are bound to the batch's rows, or remember what they were called with
_BATCH = _named(
    "EncoderRepetitionPenaltyLogitsProcessor",
    "EncoderNoRepeatNGramLogitsProcessor",
    "UnbatchedClassifierFreeGuidanceLogitsProcessor",
    "ClassifierFreeGuidanceLogitsProcessor",
    "SynthIDTextWatermarkLogitsProcessor",
)
# these remember what they were called with, so they may not see a place that was not reached
_STATEFUL = _named("UnbatchedClassifierFreeGuidanceLogitsProcessor", "SynthIDTextWatermarkLogitsProcessor")


class HFChoice:
    """Greedy choice or sampling behind logits processors, with stopping criteria.

    Args:
        input_ids: int64[n_rows, width], as `generate` was given them, padding included: processors see it.
        processors, criteria: as `generate` made them.
        sample: draw from the processed distribution; otherwise take its mode.
        keep_scores, keep_logits: whether rows keep the processed and the raw scores of their tokens.

    Raises:
        OptionError: a processor that cannot be called row by row, with several rows.
    """

    def __init__(
        self,
        input_ids: torch.Tensor,
        processors: Any,
        criteria: Any,
        *,
        sample: bool,
        keep_scores: bool,
        keep_logits: bool,
    ) -> None:
        self.sample, self.keep_scores, self.keep_logits = sample, keep_scores, keep_logits
        n_rows, self.width = input_ids.shape
        self.device = input_ids.device
        self.processors = [_for_rows(processors, row, n_rows) for row in range(n_rows)]
        self.blind = all(type(processor) in _BLIND for processor in processors)
        pure = all(type(p).__module__ == logits_process.__name__ and type(p) not in _STATEFUL for p in processors)
        # ahead: score all places of the draft before looking at any, so that the device is asked once per pass
        self.ahead = pure and self.device.type != "cpu"
        self.end_ids: frozenset[int] = frozenset()
        self.max_length: int | None = None
        self.criteria = []
        for criterion in criteria:
            if type(criterion) is stopping_criteria.EosTokenCriteria:
                self.end_ids |= frozenset(criterion.eos_token_id.tolist())
            elif type(criterion) is stopping_criteria.MaxLengthCriteria:
                lengths = [criterion.max_length, *([] if self.max_length is None else [self.max_length])]
                self.max_length = min(lengths)
            else:
                self.criteria.append(criterion)
        own = all(type(criterion).__module__ == stopping_criteria.__name__ for criterion in self.criteria)
        self.ask_ahead = own and self.device.type != "cpu"
        self.needs_ids = not self.blind or bool(self.criteria)
        # a row's ids on the device, prompt and output, with room that grows
        self.ids = [line[None] for line in input_ids] if self.needs_ids else []
        self.scores: list[list[torch.Tensor]] = [[] for _ in range(n_rows)]
        self.logits: list[list[torch.Tensor]] = [[] for _ in range(n_rows)]
        self._latest: dict[int, tuple[Any, Any]] = {}

    def __call__(
        self, logits: torch.Tensor, rows: Sequence[Row], drafts: Sequence[Planned], first: Sequence[int]
    ) -> list[list[int]]:
        if self.blind:
            return self._at_once(logits, rows, drafts, first)
        return [
            (self._row_ahead if self.ahead else self._row)(logits[slot, start:], row, draft)
            for slot, (row, draft, start) in enumerate(zip(rows, drafts, first, strict=True))
        ]

    def keep(self, row: Row, ids: list[int]) -> tuple[int, bool]:
        n, ended = until_end(ids, self.end_ids, row.limit - len(row.ids))
        if self.criteria:
            n, ended = self._asked(row, ids[:n], ended)
        if self.needs_ids:
            self._extend(row, ids[:n])
        if self.keep_scores or self.keep_logits:
            scores, raw = self._latest[row.index]
            self.scores[row.index] += list(scores[:n]) if self.keep_scores else []
            self.logits[row.index] += list(raw[:n]) if self.keep_logits else []
        return n, ended

    def _at_once(
        self, logits: torch.Tensor, rows: Sequence[Row], drafts: Sequence[Planned], first: Sequence[int]
    ) -> list[list[int]]:
        processors = self.processors[0]
        scores = raw = logits
        if processors or self.sample or self.keep_scores or self.keep_logits:
            raw = logits.float()
            flat = raw.reshape(-1, raw.shape[-1])
            if processors:
                no_ids = torch.zeros(len(flat), 1, dtype=torch.int64, device=self.device)
                flat = processors(no_ids, flat.clone())
            scores = flat.view(raw.shape)
        chosen = self._pick(scores)
        brought = [kept(draft, line[start:]) for draft, line, start in zip(drafts, chosen, first, strict=True)]
        if self.keep_scores or self.keep_logits:
            for slot, (row, draft, ids, start) in enumerate(zip(rows, drafts, brought, first, strict=True)):
                self._remember(row, draft, ids, scores[slot, start:], raw[slot, start:])
        return brought

    def _row(self, logits: torch.Tensor, row: Row, draft: Planned) -> list[int]:
        """The tokens of one row, each chosen when those before it are; `logits` float[at least n_drafted + 1, n_ids]."""
        processors, known = self.processors[row.index], self.ids[row.index]
        ids: list[int] = []
        scores: list[torch.Tensor] = []
        places: list[int] = []
        place = -1
        while True:
            so_far = (
                torch.cat([known, torch.tensor([ids], dtype=known.dtype, device=self.device)], dim=1) if ids else known
            )
            # a copy, the processors' to change
            scores.append(processors(so_far, logits[place + 1][None].to(torch.float32, copy=True)))
            places.append(place + 1)
            ids += self._pick(scores[-1])
            place = -1 if ids[-1] in self.end_ids else draft.child(place, ids[-1])
            if place < 0:
                break
        if self.keep_scores or self.keep_logits:
            self._latest[row.index] = torch.cat(scores), logits[places].float()
        return ids

    def _row_ahead(self, logits: torch.Tensor, row: Row, draft: Planned) -> list[int]:
        """The same with all places scored before any token is looked at, each behind the branch that it ends."""
        processors, known = self.processors[row.index], self.ids[row.index]
        drafted = torch.tensor([[0, *draft.tokens]], device=self.device)
        paths = [[place + 1 for place in draft.path(last)] for last in range(-1, len(draft.tokens))]
        longest = max(map(len, paths))
        padded = [path + [0] * (longest - len(path)) for path in paths]
        on_path = torch.tensor(padded, dtype=torch.int64, device=self.device)
        scores = torch.cat(
            [
                processors(
                    torch.cat([known, drafted[:, on_path[place, : len(path)]]], dim=1),
                    logits[place][None].to(torch.float32, copy=True),
                )
                for place, path in enumerate(paths)
            ]
        )
        ids = kept(draft, self._pick(scores))
        if self.keep_scores or self.keep_logits:
            self._remember(row, draft, ids, scores, logits.float())
        return ids

    def _remember(self, row: Row, draft: Planned, ids: Sequence[int], scores: torch.Tensor, raw: torch.Tensor) -> None:
        """Keep the scores of the places where the ids were chosen."""
        places = [0, *(place + 1 for place in accepted(draft, ids))]
        self._latest[row.index] = scores[places], raw[places]

    def _pick(self, scores: torch.Tensor) -> list[Any]:
        """The ids for every row of scores, float[..., n_ids]; nested lists."""
        if not self.sample:
            return most_likely(scores)
        chances = torch.softmax(scores, dim=-1)
        return torch.multinomial(chances.view(-1, chances.shape[-1]), 1).view(chances.shape[:-1]).tolist()

    def _asked(self, row: Row, ids: list[int], ended: bool) -> tuple[int, bool]:
        """Ask the criteria after every token, in order, as plain decoding does."""
        known, before = self.ids[row.index], self.scores[row.index]
        every = torch.cat([known, torch.tensor([ids], device=self.device)], dim=1)
        scores = [one[None] for one in (*before, *self._latest[row.index][0])] if self.keep_scores else []
        answers: list[torch.Tensor] = []
        for n in range(1, len(ids) + 1):
            so_far = every[:, : known.shape[1] + n], tuple(scores[: len(before) + n]) or None
            given = [torch.as_tensor(criterion(*so_far), device=self.device) for criterion in self.criteria]
            answers.append(torch.stack([answer.any() for answer in given]).any())
            if not self.ask_ahead and answers[-1]:
                return n, True
        stops = torch.stack(answers).tolist() if self.ask_ahead else []
        return (stops.index(True) + 1, True) if True in stops else (len(ids), ended)

    def _extend(self, row: Row, ids: list[int]) -> None:
        new = torch.tensor([ids], dtype=torch.int64, device=self.device)
        self.ids[row.index] = torch.cat([self.ids[row.index], new], dim=1)


def _for_rows(processors: Any, row: int, n_rows: int) -> Any:
    """The processors as this row calls them: alone, while those with a row number must see the row's own."""
    if n_rows == 1:
        return processors
    bound = logits_process.LogitsProcessorList()
    for processor in processors:
        if type(processor) in _BATCH:
            raise OptionError(f"{type(processor).__name__} works with drafts one row at a time; pass one row per call")
        padding = getattr(processor, "prompt_ignore_length", None)
        if type(processor) is logits_process.RepetitionPenaltyLogitsProcessor and isinstance(padding, torch.Tensor):
            own = padding[row : row + 1]
            bound.append(logits_process.RepetitionPenaltyLogitsProcessor(processor.penalty, prompt_ignore_length=own))
        elif type(processor) is logits_process.PrefixConstrainedLogitsProcessor:
            allowed = processor._prefix_allowed_tokens_fn
            prompt = row // processor._num_beams  # several rows may be of one prompt
            bound.append(
                logits_process.PrefixConstrainedLogitsProcessor(lambda _, ids, f=allowed, k=prompt: f(k, ids), 1)
            )
        else:
            bound.append(processor)
    return bound
