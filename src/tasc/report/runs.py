"""Finds out what a path holds and reads it: a run folder, logs and outputs of `tasc generate`, or a JSON document."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasc.errors import DataError, OptionError
from tasc.files import read_json
from tasc.progress import Progress, silent
from tasc.report._content import content_of
from tasc.report._demo import read_demo
from tasc.report._documents import read_compare, read_eval, read_tune
from tasc.report._generate import is_enrich, read_enrich, read_folder, read_generated
from tasc.report._recorded import Given
from tasc.report._train import read_train
from tasc.report.data import Report, Run

KNOWN = (
    "the run folder of 'tasc demo' or 'tasc train', what 'tasc generate' wrote with --record or -o, a folder with such "
    "files, or what 'tasc eval', 'tasc enrich', 'tasc generate --compare' or 'tasc tune' print with --json"
)


def read_report(
    paths: Sequence[str | os.PathLike[str]],
    *,
    title: str = "",
    drafters: Sequence[str | os.PathLike[str]] = (),
    tokenizer: str | os.PathLike[str] | None = None,
    vocabulary: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Read several runs for one page.

    Args:
        paths: see `read_run`.
        title: of the page; default: made of the runs' names.
        drafters: for all runs, see `read_run`.
        tokenizer: for all runs, see `read_run`.
        vocabulary: for all runs, see `read_run`.
        progress: see `tasc.progress.Progress`.

    Raises:
        OptionError: no run is given, or a drafter, tokenizer or vocabulary that no run needs.
        DataError: see `read_run`, as for its other errors.
    """
    if not paths:
        raise OptionError("a report needs at least one run, got none; pass a run folder")
    places, given = [Path(path) for path in paths], _given(drafters, tokenizer, vocabulary)
    names = _names(places)
    runs = tuple(_named(place, given, name, progress) for place, name in zip(places, names, strict=True))
    if given and not any(run.kind in ("generate", "enrich") for run in runs):
        raise OptionError(
            "a drafter, tokenizer or vocabulary is for what 'tasc generate' wrote, and no run is of that kind; leave it out"
        )
    return Report(title or " and ".join(names), runs)


def read_run(
    path: str | os.PathLike[str],
    *,
    name: str = "",
    drafters: Sequence[str | os.PathLike[str]] = (),
    tokenizer: str | os.PathLike[str] | None = None,
    vocabulary: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> Run:
    """Read one run.

    Args:
        path: a folder, a log or outputs of `tasc generate`, or a JSON file.
        name: what it is called; default: the name of the folder or file.
        drafters: files of `tasc draft build`; a log takes the one that makes its drafts. Default: those in the folder.
        tokenizer: folder or Hub name, for logs and outputs; default: the one that the drafter was built with.
        vocabulary: folder of n-grams, for logs and outputs; default: those that the drafter was built with.
        progress: see `tasc.progress.Progress`.

    Raises:
        DataError: nothing that a report can show, or a damaged file.
        FingerprintError, TokenizerError, VocabularyError, DrafterFileError: a drafter, tokenizer or vocabulary does not
            belong to the run, or cannot be read.
        OSError: it cannot be opened.
    """
    place = Path(path)
    return _named(place, _given(drafters, tokenizer, vocabulary), name or place.resolve().name, progress)


def _given(
    drafters: Sequence[str | os.PathLike[str]],
    tokenizer: str | os.PathLike[str] | None,
    vocabulary: str | os.PathLike[str] | None,
) -> Given:
    return Given(
        tuple(Path(one) for one in drafters),
        None if tokenizer is None else os.fspath(tokenizer),
        None if vocabulary is None else os.fspath(vocabulary),
    )


def _named(place: Path, given: Given, name: str, progress: Progress) -> Run:
    try:
        return _read(place, given, name, progress)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{place}: damaged or of another version ({error!r}); make it again") from error


def _read(place: Path, given: Given, name: str, progress: Progress) -> Run:
    if place.is_dir():
        return _read_folder(place, given, name, progress)
    match content_of(place):
        case "log":
            return read_generated([place], [], given, name=name, progress=progress)
        case "outputs":
            return read_generated([], [place], given, name=name, progress=progress)
        case "drafter":
            raise DataError(f"{place}: a drafter file shows nothing by itself; pass a log and it as --drafter")
        case "other":
            raise DataError(f"{place} is no document that a report can show; pass {KNOWN}")
    return _read_document(read_json(place), place.parent, given, name, progress)


def _read_folder(place: Path, given: Given, name: str, progress: Progress) -> Run:
    results = place / "results.json"
    if results.is_file():
        return _read_document(read_json(results), place, given, name, progress)
    stored = read_json(place / "run.json") if (place / "run.json").is_file() else {}
    if isinstance(stored, dict) and "status" in stored and "options" in stored:
        return read_train(place, stored, name=name)
    if isinstance(stored, dict) and "demo" in stored:
        raise DataError(f"{place}: an unfinished demo; 'tasc demo -o {place}' goes on with it")
    run = read_folder(place, given, name=name, progress=progress)
    if run is None:
        raise DataError(f"{place}: no run folder; pass {KNOWN}")
    return run


def _read_document(found: Any, folder: Path, given: Given, name: str, progress: Progress) -> Run:
    known = set(found) if isinstance(found, dict) else set()
    if {"systems", "scale", "enriched"} <= known:
        return read_demo(folder, found, name=name, progress=progress)
    if is_enrich(found):
        return read_enrich(found, given, name=name)
    if {"verdict", "tried", "before", "after"} <= known:
        return read_tune(found, name=name)
    if {"speedup_range", "passes_per_output", "ms_per_output"} <= known:
        return read_compare(found, name=name)
    if {"metric", "quality", "intervals"} <= known:
        return read_eval(found, name=name)
    raise DataError(f"{folder}: {name} is no document that a report can show; pass {KNOWN}")


def _names(places: Sequence[Path]) -> list[str]:
    """Names of folders and files; those that are equal get their parents in front, and a number if they stay equal."""
    names = [place.resolve().name for place in places]
    names = [
        name if names.count(name) == 1 else "/".join(place.resolve().parts[-2:])
        for name, place in zip(names, places, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]
