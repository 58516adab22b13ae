"""Finds out what a path holds and reads it: a demo folder, a `tasc train` folder, or a JSON document of a command."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasc.errors import DataError, OptionError
from tasc.files import read_json
from tasc.progress import Progress, silent
from tasc.report._demo import read_demo
from tasc.report._documents import read_compare, read_eval, read_tune
from tasc.report._train import read_train
from tasc.report.data import Report, Run

KNOWN = (
    "the run folder of 'tasc demo' or 'tasc train', or what 'tasc eval', 'tasc generate --compare' or 'tasc tune' print "
    "with --json"
)


def read_report(paths: Sequence[str | os.PathLike[str]], *, title: str = "", progress: Progress = silent) -> Report:
    """Read several runs for one page.

    Args:
        paths: see `read_run`.
        title: of the page; default: made of the runs' names.
        progress: see `tasc.progress.Progress`.

    Raises:
        OptionError: no run is given.
        DataError: see `read_run`.
    """
    if not paths:
        raise OptionError("a report needs at least one run, got none; pass a run folder")
    places = [Path(path) for path in paths]
    names = _names(places)
    runs = tuple(read_run(place, name=name, progress=progress) for place, name in zip(places, names, strict=True))
    return Report(title or " and ".join(names), runs)


def read_run(path: str | os.PathLike[str], *, name: str = "", progress: Progress = silent) -> Run:
    """Read one run.

    Args:
        path: a folder or a JSON file.
        name: what it is called; default: the name of the folder or file.
        progress: see `tasc.progress.Progress`.

    Raises:
        DataError: nothing that a report can show, or a damaged file.
        OSError: it cannot be opened.
    """
    place = Path(path)
    name = name or place.resolve().name
    try:
        return _read(place, name, progress)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{place}: damaged or of another version ({error!r}); make it again") from error


def _read(place: Path, name: str, progress: Progress) -> Run:
    if place.is_dir():
        results = place / "results.json"
        if results.is_file():
            return _read_document(read_json(results), place, name, progress)
        stored = read_json(place / "run.json") if (place / "run.json").is_file() else {}
        if isinstance(stored, dict) and "status" in stored and "options" in stored:
            return read_train(place, stored, name=name)
        if isinstance(stored, dict) and "demo" in stored:
            raise DataError(f"{place}: an unfinished demo; 'tasc demo -o {place}' goes on with it")
        raise DataError(f"{place}: no run folder; pass {KNOWN}")
    return _read_document(read_json(place), place.parent, name, progress)


def _read_document(found: Any, folder: Path, name: str, progress: Progress) -> Run:
    known = set(found) if isinstance(found, dict) else set()
    if {"systems", "scale", "enriched"} <= known:
        return read_demo(folder, found, name=name, progress=progress)
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
