"""From ids to the text that people see: outputs cut into tokens, and generations pass by pass."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasc.corpus import load_tokenizer
from tasc.draft import Drafter
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.interface import SOURCES
from tasc.draft.recorded import Log, Recorded, other_ids, read_log
from tasc.errors import TascError
from tasc.progress import Progress
from tasc.replay.origin import at_work, curve_of, ids_of, options_of
from tasc.replay.steps import Pass, passes_of
from tasc.report.data import DraftedToken, Piece, Sample, Step, Walk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tasc.evals import Prediction
    from tasc.vocab import EnrichedVocabulary

SAMPLES, WALKS = 4, 3
LONGEST_OUTPUT = 400  # characters of a sample
LONGEST_TEXT = 2000  # characters of its prompt and reference; the rest is left out
MOST_STEPS = 24  # of a generation; further ones are left out


def cut(
    text: str, tokenizer: "PreTrainedTokenizerFast", vocabulary: "EnrichedVocabulary"
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """A text in base tokens and with n-grams merged; the pieces of either put together are the text."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    ends = [end for _, end in offsets]
    if ends:
        ends[-1] = len(text)
    before = _pieces(text, ends, [False] * len(ends))
    merged = vocabulary.merge(ids).tolist()
    merged_ends, place = [], 0
    for token in merged:
        place += len(vocabulary.ids_of(token))
        merged_ends.append(ends[place - 1])
    return before, _pieces(text, merged_ends, [token >= vocabulary.base_size for token in merged])


def _pieces(text: str, ends: Sequence[int], ngrams: Sequence[bool]) -> tuple[Piece, ...]:
    """Slices up to each end; a token that holds a part of a character only gets no text of its own."""
    begin, pieces = 0, []
    for end, is_ngram in zip(ends, ngrams, strict=True):
        pieces.append(Piece(text[begin:end], is_ngram))
        begin = max(begin, end)
    return tuple(pieces)


def samples(
    rows: "Sequence[Prediction]", tokenizer: "PreTrainedTokenizerFast", vocabulary: "EnrichedVocabulary"
) -> tuple[Sample, ...]:
    """A few outputs of different lengths, evenly spaced over the sorted lengths."""
    fitting = sorted(
        {row.completion: row for row in rows if 0 < len(row.completion) <= LONGEST_OUTPUT}.values(),
        key=lambda row: (len(row.completion), row.completion),
    )
    places = sorted({round(share * (len(fitting) - 1)) for share in (0.1, 0.4, 0.7, 0.95)}) if fitting else []
    return tuple(
        Sample(_start(row.prompt), row.completion, _start(row.reference), *cut(row.completion, tokenizer, vocabulary))
        for row in (fitting[place] for place in places)
    )


def _start(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}\u2026"


def walks(
    system: str,
    drafter_file: Path,
    log_file: Path,
    tokenizer: "PreTrainedTokenizerFast",
    vocabulary: "EnrichedVocabulary | None",
    progress: Progress,
) -> tuple[Walk, ...]:
    """A few generations of a log, chosen for what there is to see; none where the files do not belong together."""
    try:
        drafter, log = Drafter.load(drafter_file), read_log(log_file)
        if not log.requests or other_ids(log.about, ids_of(drafter)):
            return ()
        found = replayed(drafter, log, log_file, progress, what=system)
    except (TascError, OSError):
        return ()
    return walks_of(system, log.requests, found, tokenizer, vocabulary)


def replayed(drafter: Drafter, log: Log, path: Path, progress: Progress, *, what: str) -> list[tuple[Pass, ...] | None]:
    """The passes of each request of a log, the drafter at work as it was when the run began.

    Args:
        drafter: the one of that run.
        log: holds requests.
        path: its file, for messages.
        progress: see `tasc.progress.Progress`.
        what: what progress calls it.

    Raises:
        DataError: the log's cost curve or options cannot be used, or a request has no output.
    """
    control = Control(curve_of(log, path) or StepCost.default("cpu"), **options_of(log, path))
    with progress(f"replaying {what}", total=len(log.requests), unit="requests") as advance:
        return passes_of(at_work(drafter, log), log.requests, control, progress=advance)


def walks_of(
    system: str,
    requests: Sequence[Recorded],
    found: Sequence[tuple[Pass, ...] | None],
    tokenizer: "PreTrainedTokenizerFast",
    vocabulary: "EnrichedVocabulary | None",
) -> tuple[Walk, ...]:
    """A few generations, chosen for what there is to see; of long ones the beginning, where there are no others."""
    known = [
        (request, passes)
        for request, passes in zip(requests, found, strict=True)
        if passes and any(one.draft.tokens for one in passes[:MOST_STEPS])
    ]
    known.sort(key=lambda pair: (len(pair[1]) <= MOST_STEPS, *_interest(pair[1][:MOST_STEPS])), reverse=True)
    return tuple(_walk(system, *pair, tokenizer, vocabulary) for pair in known[:WALKS])


def _interest(passes: Sequence[Pass]) -> tuple[int, int, int]:
    """Sources at work, then drafts that were cut short; of equal ones the longer generation."""
    sources = {source for one in passes for source in one.sources}
    cut_short = sum(0 < len(one.stand) < one.draft.depth for one in passes)
    return min(len(sources), len(SOURCES)), min(cut_short, 2), len(passes)


def _walk(
    system: str,
    request: Recorded,
    passes: Sequence[Pass],
    tokenizer: "PreTrainedTokenizerFast",
    vocabulary: "EnrichedVocabulary | None",
) -> Walk:
    text = decoder(tokenizer, vocabulary)

    def piece(before: list[int], token: int) -> str:
        # as part of its text: some tokenizers drop the space in front of a lone token
        whole, start = text([*before, token]), text(before)
        return whole[len(start) :] if whole.startswith(start) else text([token])

    steps, so_far = [], []
    for one in passes[:MOST_STEPS]:
        draft, shown = one.draft, []
        # what stands, then what does not: of a tree the branches that were left
        for place in sorted(range(len(draft.tokens)), key=lambda place: place not in one.stand):
            before = so_far + [draft.tokens[earlier] for earlier in draft.path(place)[:-1]]
            shown.append(DraftedToken(piece(before, draft.tokens[place]), one.sources[place], place in one.stand))
        own = None if one.own is None else piece(so_far + list(one.produced[:-1]), one.own)
        steps.append(Step(text(so_far), tuple(shown), own))
        so_far += one.produced
    return Walk(system, text(request.prompt_ids), len(request.output_ids), tuple(steps), len(passes) - len(steps))


def decoder(
    tokenizer: "PreTrainedTokenizerFast", vocabulary: "EnrichedVocabulary | None", *, skip_special_tokens: bool = False
) -> Callable[[Sequence[int]], str]:
    """A function from ids to text, n-grams written out."""

    def text(ids: Sequence[int]) -> str:
        base = list(ids) if vocabulary is None else vocabulary.expand(list(ids)).tolist()
        return str(tokenizer.decode(base, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False))

    return text


def tokenizer_of(folders: Sequence[Path]) -> "PreTrainedTokenizerFast | None":
    """The tokenizer of the first folder that has one."""
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            return load_tokenizer(folder)
    return None
