"""Reads what `tasc generate` and `tasc enrich` write: logs of requests, files of outputs, n-grams, and folders of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.corpus import fingerprint, load_tokenizer
from tasc.draft import Drafter
from tasc.draft.recorded import Log
from tasc.errors import DataError, FingerprintError, TokenizerError
from tasc.evals import Prediction, read_predictions, speed_of
from tasc.files import read_json
from tasc.progress import Progress
from tasc.report import texts
from tasc.report._content import contents_of
from tasc.report._recorded import Given, RecordedRun
from tasc.report._train import ngrams_of
from tasc.report.data import Budgets, Run, System
from tasc.report.shared import budget_point
from tasc.vocab import EnrichedVocabulary
from tasc.vocab.tokenizer import base_of, load_base_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PER_OUTPUT = {"passes_per_output": "passes", "tokens_per_output": "base tokens", "ms_per_output": "ms"}
LARGEST_DOCUMENT = 1 << 20  # bytes; those of 'tasc enrich' have some thousand


def read_folder(folder: Path, given: Given, *, name: str, progress: Progress) -> Run | None:
    """One run of the logs, outputs, drafters and n-grams that lie in a folder; None where there is nothing to show.

    Raises:
        DataError, FingerprintError, TokenizerError, VocabularyError, DrafterFileError: see `read_generated`.
        OSError: a file cannot be opened.
    """
    found = contents_of(folder)
    if given.vocabulary is None and (folder / "enriched.json").is_file():
        given = replace(given, vocabulary=str(folder))
    documents = [document for path in found["json"] if is_enrich(document := _document(path))]
    mined = read_enrich(documents[0], given, name=name) if documents else None
    if found["log"] or found["outputs"]:
        if not given.drafters:
            given = replace(given, drafters=tuple(found["drafter"]), must_fit=False)
        run = read_generated(found["log"], found["outputs"], given, name=name, progress=progress)
        if mined is None:
            return run
        return replace(
            run,
            facts=(*run.facts, *mined.facts),
            verdict=(*run.verdict, *mined.verdict),
            ngrams=run.ngrams or mined.ngrams,
            n_ngrams=run.n_ngrams or mined.n_ngrams,
            budgets=mined.budgets,
        )
    if mined is not None or not (folder / "enriched.json").is_file():
        return mined
    vocabulary = EnrichedVocabulary.load(folder)
    return Run(
        name=name,
        kind="enrich",
        facts=(("n-grams added", f"{len(vocabulary):,}"),),
        ngrams=ngrams_of(vocabulary),
        n_ngrams=len(vocabulary),
    )


def read_generated(
    logs: Sequence[Path], outputs: Sequence[Path], given: Given, *, name: str, progress: Progress
) -> Run:
    """One run of logs and outputs; outputs that were written while a log was recorded are those of the log.

    Raises:
        DataError, FingerprintError, TokenizerError, VocabularyError, DrafterFileError: a file cannot be used, or files do not
            belong together.
    """
    drafters = {path: Drafter.load(path) for path in given.drafters}
    recorded = [RecordedRun.read(path, drafters, given, progress) for path in logs]
    rows = {path: read_predictions(path) for path in outputs}
    written = {one.path: _written_with(one.log, rows) for one in recorded}
    alone = [path for path in outputs if path not in written.values()]
    systems = (*(_system(path.name, rows[path]) for path in alone), *(one.system() for one in recorded))
    vocabulary, tokenizer = _segments(recorded, given)
    samples = ()
    if vocabulary is not None and tokenizer is not None:
        samples = texts.samples(_fewest_passes(recorded, rows), tokenizer, vocabulary)
    return Run(
        name=name,
        kind="generate",
        facts=_facts(recorded, {path: len(found) for path, found in rows.items()}),
        verdict=(
            *(line for one in recorded for line in one.verdict()),
            *(_sentence(path.name, rows[path]) for path in alone),
        ),
        next_steps=_next_steps(recorded, outputs),
        systems=systems,
        ngrams=() if vocabulary is None else ngrams_of(vocabulary),
        n_ngrams=0 if vocabulary is None else len(vocabulary),
        samples=samples,
        drafts=tuple(one.drafts() for one in recorded if one.n_drafted),
        walks=tuple(walk for one in recorded for walk in one.walks()),
    )


def _segments(
    recorded: Sequence[RecordedRun], given: Given
) -> "tuple[EnrichedVocabulary | None, PreTrainedTokenizerFast | None]":
    """The n-grams that outputs are cut into, and their base tokenizer."""
    spoken = [(one.vocabulary, one.tokenizer) for one in recorded if one.vocabulary is not None]
    if spoken:
        return spoken[0]
    if given.vocabulary is None:
        return None, None
    vocabulary = EnrichedVocabulary.load(given.vocabulary)
    names = [one.tokenizer for one in recorded if one.tokenizer is not None]
    try:
        if given.tokenizer is not None:
            tokenizer = load_tokenizer(base_of(given.tokenizer))
        else:
            tokenizer = names[0] if names else load_base_tokenizer(given.vocabulary)
    except TokenizerError as error:
        if given.tokenizer is not None:
            raise
        raise TokenizerError(
            f"{given.vocabulary}: its base tokenizer is not there ({error}); pass --tokenizer"
        ) from error
    found = fingerprint(tokenizer)
    if vocabulary.fingerprint and found != vocabulary.fingerprint:
        raise FingerprintError(
            f"{given.vocabulary}: made for tokenizer {vocabulary.fingerprint}, got {found}; pass its base tokenizer as "
            "--tokenizer"
        )
    return vocabulary, tokenizer


def _fewest_passes(recorded: Sequence[RecordedRun], rows: Mapping[Path, list[Prediction]]) -> list[Prediction]:
    """The outputs to show: of the file with the fewest passes, else of a log that can be read as text."""
    known = [(speed_of(found)["passes_per_output"], path.name, found) for path, found in rows.items()]
    if known:
        return min(known, key=lambda one: (one[0] is None, one[0] or 0.0, one[1]))[2]
    readable = [one for one in recorded if one.vocabulary is not None] or [one for one in recorded if one.tokenizer]
    return readable[0].outputs() if readable else []


def _written_with(log: Log, rows: Mapping[Path, Sequence[Prediction]]) -> Path | None:
    """The outputs that were written while a log was recorded: row by row the same passes in the same time."""
    taken = Counter((request.passes, request.ms) for request in log.requests)
    if any(ms is None for _, ms in taken):
        return None
    return next((path for path, found in rows.items() if taken == Counter((row.passes, row.ms) for row in found)), None)


def _system(name: str, rows: Sequence[Prediction]) -> System:
    speed = speed_of(rows)
    return System(
        name=name,
        passes_per_output=speed["passes_per_output"],
        tokens_per_output=speed["tokens_per_output"],
        passes=tuple(row.passes for row in rows if row.passes is not None),
    )


def _sentence(name: str, rows: Sequence[Prediction]) -> str:
    speed = speed_of(rows)
    parts = [f"{speed[key]:.1f} {label}" for key, label in PER_OUTPUT.items() if speed[key] is not None]
    return f"{name}: {len(rows):,} outputs{', ' if parts else ''}{', '.join(parts)} per output."


def _facts(recorded: Sequence[RecordedRun], outputs: Mapping[Path, int]) -> tuple[tuple[str, str], ...]:
    facts = []
    for one in recorded:
        of = f" of {one.name}" if len(recorded) > 1 else ""
        about = one.log.about
        facts.append((f"requests{of}", f"{len(one.log.requests):,}"))
        if one.drafter is not None:
            facts.append((f"drafter{of}", f"{one.drafter.name} ({one.preset})"))
            facts.append((f"requests replayed{of}", f"{one.n_replayed:,} of {len(one.log.requests):,}"))
        if "max_draft" in about:
            facts.append((f"longest draft{of}", f"{about['max_draft']} tokens"))
        if "adapt" in about:
            facts.append((f"weights follow the outputs{of}", "yes" if about["adapt"] else "no"))
    return (*facts, *(("outputs", f"{n:,} in {path.name}") for path, n in outputs.items()))


def _next_steps(recorded: Sequence[RecordedRun], outputs: Sequence[Path]) -> tuple[str, ...]:
    steps = []
    if any(one.drafter is None for one in recorded):
        steps.append(
            "See drafts by source and pass by pass: 'tasc report LOG --drafter FILE' with the drafter file of that run."
        )
    if recorded:
        steps.append("Measure the speed-up over plain decoding: 'tasc generate --drafter ... --compare'.")
        steps.append("Try other drafters on the same requests: 'tasc replay --log'.")
    if outputs:
        steps.append("Score the outputs: 'tasc eval --predictions FILE --metric ...'.")
    return tuple(steps)


def is_enrich(found: Any) -> bool:
    """Whether a document is that of `tasc enrich --json`."""
    return isinstance(found, dict) and {"added", "train", "h2_nats", "prompt_drift", "budget"} <= set(found)


def read_enrich(found: Mapping[str, Any], given: Given, *, name: str) -> Run:
    """Of `tasc enrich --json`; the n-grams come from the folder that it wrote, if it is still there."""
    vocabulary = None
    if given.vocabulary is not None:
        vocabulary = EnrichedVocabulary.load(given.vocabulary)
    elif found.get("out") and Path(found["out"], "enriched.json").is_file():
        vocabulary = EnrichedVocabulary.load(found["out"])
    curve = tuple(budget_point(point) for point in found["budget"]["curve"])
    shorter = [
        f"{label} take {part['tokens_after']:,} instead of {part['tokens_before']:,} tokens, {part['ratio']:.2f} times fewer."
        for label, part in (("Training outputs", found["train"]), ("Held-out outputs", found.get("eval")))
        if part is not None
    ]
    return Run(
        name=name,
        kind="enrich",
        facts=(
            ("n-grams added", f"{found['added']:,}"),
            ("why so many", str(found["budget"]["reason"])),
            ("prompts changed", f"{found['prompt_drift']:,}"),
        ),
        verdict=tuple(shorter),
        next_steps=(f"Fine-tune a model to use them: 'tasc train --vocab {found.get('out') or 'FOLDER'}'.",),
        ngrams=() if vocabulary is None else ngrams_of(vocabulary),
        n_ngrams=0 if vocabulary is None else len(vocabulary),
        budgets=Budgets(curve, found["added"]) if curve else None,
    )


def _document(path: Path) -> Any:
    """A small JSON document of a folder that may hold anything; None for what is none."""
    if path.stat().st_size > LARGEST_DOCUMENT:
        return None
    try:
        return read_json(path)
    except DataError:
        return None
