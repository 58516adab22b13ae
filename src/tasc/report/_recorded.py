"""Logs of `tasc generate --record`: what drafts did there, and with the drafter of that run what each of them was."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasc.draft import Drafter
from tasc.draft.interface import by_source
from tasc.draft.recorded import Log, other_ids, read_log
from tasc.draft.verify import by_position
from tasc.errors import DataError, FingerprintError, VocabularyError
from tasc.evals import Prediction
from tasc.progress import Progress
from tasc.replay.origin import ids_of, tokenizer_of, vocabulary_of
from tasc.replay.steps import Pass
from tasc.report import texts
from tasc.report.data import Acceptance, Drafts, Speed, System, Walk
from tasc.vocab import EnrichedVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Given:
    """What logs and outputs do not say themselves.

    Attributes:
        drafters: files of `tasc draft build`; each log takes the one that makes its drafts.
        tokenizer: folder or Hub name; default: the one that the drafter was built with, or that of the n-grams.
        vocabulary: folder of n-grams; default: those that the drafter was built with.
        must_fit: whether a log that no drafter fits is an error.
    """

    drafters: tuple[Path, ...] = ()
    tokenizer: str | None = None
    vocabulary: str | None = None
    must_fit: bool = True

    def __bool__(self) -> bool:
        return bool(self.drafters) or self.tokenizer is not None or self.vocabulary is not None


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A log and, if it is known, what its run was made with.

    Attributes:
        drafter: the file that makes its drafts; None if none was found.
        preset: of the drafter.
        passes: of each request, None for one that the drafter takes other passes for; empty without a drafter.
        tried: names of the drafters that make none of its drafts.
        tokenizer, vocabulary: what its ids mean; no tokenizer without a drafter.
    """

    path: Path
    log: Log
    drafter: Path | None = None
    preset: str = ""
    passes: Sequence[tuple[Pass, ...] | None] = ()
    tried: tuple[str, ...] = ()
    tokenizer: "PreTrainedTokenizerFast | None" = None
    vocabulary: EnrichedVocabulary | None = None

    @classmethod
    def read(cls, path: Path, drafters: Mapping[Path, Drafter], given: Given, progress: Progress) -> "RecordedRun":
        log = read_log(path)
        if not any(request.passes for request in log.requests):
            raise DataError(f"{path}: no recorded request; record a run with 'tasc generate --record'")
        fitting = {file: one for file, one in drafters.items() if _fits(one, log)}
        if drafters and not fitting and given.must_fit:
            _refuse(path, log, drafters)
        file, passes = _replayed(path, log, fitting, progress)
        if file is None:
            return cls(path, log, tried=tuple(one.name for one in fitting))
        drafter = fitting[file]
        vocabulary = _spoken(drafter, file, given.vocabulary)
        tokenizer = tokenizer_of(drafter, file, given.tokenizer, vocabulary)
        if vocabulary is None and drafter.vocab_size > 1 + max(tokenizer.get_vocab().values()):
            raise VocabularyError(f"{file} speaks n-grams and does not say which; pass their folder as --vocab")
        return cls(path, log, file, drafter.preset, passes, (), tokenizer, vocabulary)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def n_passes(self) -> int:
        return sum(request.passes for request in self.log.requests)

    @property
    def n_drafted(self) -> int:
        return sum(sum(request.drafted) for request in self.log.requests)

    @property
    def n_replayed(self) -> int:
        return sum(one is not None for one in self.passes)

    def system(self) -> System:
        """Its passes, and its time where it was measured."""
        requests = self.log.requests
        times = [request.ms for request in requests if request.ms is not None]
        batch = 1 + max(request.slot for request in requests)
        return System(
            name=self.name,
            passes_per_output=self.n_passes / len(requests),
            speeds=(Speed(batch, sum(times) / len(times), None),) if len(times) == len(requests) else (),
            passes=tuple(request.passes for request in requests),
        )

    def drafts(self) -> Drafts:
        """Acceptance: by position of all requests, by source of those that were replayed."""
        tokens = sum(len(request.output_ids) for request in self.log.requests)
        return Drafts(
            self.name,
            tokens / self.n_passes,
            self.n_drafted / self.n_passes,
            _by_position(self.log),
            _by_source(one for one in self.passes if one is not None),
        )

    def walks(self) -> tuple[Walk, ...]:
        """A few generations; none without a drafter."""
        if self.tokenizer is None:
            return ()
        return texts.walks_of(self.name, self.log.requests, self.passes, self.tokenizer, self.vocabulary)

    def outputs(self) -> list[Prediction]:
        """Its requests as text; what should have been written is not known, so that what was written stands there."""
        assert self.tokenizer is not None, "only with a drafter"
        decode = texts.decoder(self.tokenizer, self.vocabulary, skip_special_tokens=True)
        pairs = [(decode(request.prompt_ids), decode(request.output_ids)) for request in self.log.requests]
        return [Prediction(prompt, output, output) for prompt, output in pairs]

    def verdict(self) -> tuple[str, ...]:
        """What drafts did, and what of it could not be replayed."""
        n, accepted = len(self.log.requests), sum(sum(request.accepted) for request in self.log.requests)
        tokens = sum(len(request.output_ids) for request in self.log.requests)
        share = (
            f"{accepted / self.n_drafted:.0%} of the drafted tokens were accepted" if self.n_drafted else "no drafts"
        )
        lines = [
            f"{self.name}: {tokens / self.n_passes:.2f} tokens per pass, {self.n_passes / n:.1f} passes per output; {share}."
        ]
        if self.tried:
            lines.append(
                f"{', '.join(self.tried)} does not make the drafts of {self.name}, so sources and steps are not shown: it was "
                "built or tuned anew since, or another drafter made them."
            )
        elif self.drafter is not None and self.n_replayed < n:
            lines.append(
                f"Sources and steps are those of {self.n_replayed:,} of {n:,} requests: for the others {self.drafter.name} takes "
                "other passes than those recorded, as where a log holds several runs."
            )
        return tuple(lines)


def _fits(drafter: Drafter, log: Log) -> bool:
    if other_ids(log.about, ids_of(drafter)):
        return False
    highest = max(
        max(max(request.prompt_ids, default=0), max(request.output_ids, default=0)) for request in log.requests
    )
    return highest < drafter.vocab_size


def _refuse(path: Path, log: Log, drafters: Mapping[Path, Drafter]) -> None:
    others = [other_ids(log.about, ids_of(one)) for one in drafters.values()]
    if all(others):
        expected = next(other[0] for other in others if other)
        found = " and ".join(sorted({other[1] for other in others if other}))
        raise FingerprintError(
            f"{path}: recorded with {expected}, the drafter has {found}; pass the drafter of that run"
        )
    sizes = " and ".join(str(one.vocab_size) for one in drafters.values())
    raise DataError(f"{path}: holds ids that a drafter of {sizes} ids does not know; pass the drafter of that run")


def _replayed(
    path: Path, log: Log, drafters: Mapping[Path, Drafter], progress: Progress
) -> tuple[Path | None, Sequence[tuple[Pass, ...] | None]]:
    """The drafter that takes the recorded passes for the most requests, and the passes; None where each takes others.

    The drafter of the run takes those of the first batch in any case: nothing was learnt before it.
    """
    best: tuple[Path | None, Sequence[tuple[Pass, ...] | None]] = None, ()
    most = 0
    first = next((row for row, request in enumerate(log.requests) if row and request.slot == 0), len(log.requests))
    for file, drafter in drafters.items():
        found = texts.replayed(drafter, log, path, progress, what=f"{path.name} with {file.name}")
        n = 0 if None in found[:first] else sum(one is not None for one in found)
        if n > most:
            best, most = (file, found), n
        if n == len(found):
            break
    return best


def _spoken(drafter: Drafter, file: Path, given: str | None) -> EnrichedVocabulary | None:
    """The n-grams that a drafter speaks; given ones may belong to another drafter, or only cut the outputs."""
    if given is not None and not drafter.origin.vocabulary and EnrichedVocabulary.load(given).size > drafter.vocab_size:
        return None
    return vocabulary_of(drafter, file, given)


def _by_position(log: Log) -> tuple[Acceptance, ...]:
    """Of the first, second, ... place behind a row's last token, of the passes whose draft got there."""
    depths = [n for request in log.requests for n in request.depths]
    n_accepted = [n for request in log.requests for n in request.accepted]
    return tuple(Acceptance.of(str(place), *counts) for place, counts in enumerate(by_position(depths, n_accepted), 1))


def _by_source(found: Iterable[tuple[Pass, ...]]) -> tuple[Acceptance, ...]:
    counts = by_source((one.draft, one.stand) for passes in found for one in passes)
    return tuple(Acceptance.of(source, *count) for source, count in sorted(counts.items()))
