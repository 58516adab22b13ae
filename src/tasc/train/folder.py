"""A run folder: what a fine-tuning run was asked for, how far it came, and its result once there is one.

    run.json         options, versions, machine, and `status`: "running" until the very last write of a run
    metrics.jsonl    one line per logged step and per evaluation
    checkpoints/     what a killed run resumes from; removed when the run is finished
    config.json, model*.safetensors, tokenizer files, enriched.json    the result, moved here when all of it is written

A folder that has no run.json with status "finished" is not a finished run, whatever else lies in it.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasc.corpus import Tasks
from tasc.errors import DataError, OptionError
from tasc.files import atomic_write, lock, read_json, write_json

RUN_FILE, METRICS_FILE, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"
COMPLETE_FILE = "complete.json"  # written last into a checkpoint: the size of each of its other files
STAGING = ".result"

MAY_STAND_BEFORE = {"vocab"}  # `tasc train --budget` puts the vocabulary there before the run begins


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where one run keeps its files.

    Attributes:
        path: the folder.
        options: what decides the result; a run resumes only with equal options.
    """

    path: Path
    options: dict[str, Any]

    @property
    def checkpoints(self) -> Path:
        """The folder of `checkpoint-N` folders."""
        return self.path / CHECKPOINTS

    @property
    def metrics(self) -> Path:
        """The path of metrics.jsonl."""
        return self.path / METRICS_FILE

    def stored(self) -> dict[str, Any] | None:
        """The content of run.json, or None."""
        try:
            return read_json(self.path / RUN_FILE)
        except FileNotFoundError:
            return None

    def finished_report(self) -> dict[str, Any] | None:
        """The report of this very run if it is finished, else None."""
        stored = self.stored()
        return stored["report"] if stored and stored["status"] == "finished" else None

    def check(self) -> None:
        """Refuse a folder that holds something else than this run.

        Raises:
            OptionError: another run's folder, or a folder that is no run at all.
        """
        stored = self.stored()
        if stored is None:
            others = {p.name for p in self.path.iterdir()} - MAY_STAND_BEFORE if self.path.is_dir() else set()
            if others:
                raise OptionError(
                    f"{self.path} is not empty and no run folder (it holds {min(others)}); choose another folder"
                )
            return
        differing = _differences(stored["options"], self.options)
        if differing:
            state = "a finished" if stored["status"] == "finished" else "an unfinished"
            raise OptionError(
                f"{self.path} holds {state} run with other options ({'; '.join(differing)}); "
                "repeat them to go on with it, choose another folder, or pass --overwrite"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs on this machine out of the folder while the block runs; a killed process keeps nothing.

        Raises:
            OptionError: another run is at work in the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if lock(descriptor, wait=False) is False:
                raise OptionError(f"another run is at work in {self.path}; wait for its end, or choose another folder")
            try:
                yield
            finally:
                with suppress(OSError):
                    self.path.rmdir()  # if the run ended before it wrote anything
        finally:
            os.close(descriptor)

    def open(self, *, overwrite: bool) -> None:
        """Begin or resume: checks the folder, clears what a killed process left half done, writes run.json.

        With `overwrite` a finished run or one with other options is removed first, and what others put beside it stays;
        an unfinished one with the same options is resumed all the same, since the same command must be able to go on
        after a kill.
        """
        stored = self.stored()
        if overwrite and stored and (stored["status"] == "finished" or _differences(stored["options"], self.options)):
            self._clear(stored)
        else:
            self.check()
        self.path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.path / STAGING, ignore_errors=True)
        for folder in self.checkpoints.glob("checkpoint-*"):
            if not _is_complete(folder):
                shutil.rmtree(folder)
        if self.stored() is None:
            self._begin()

    def _begin(self) -> None:
        write_json(self.path / RUN_FILE, {"status": "running"} | self._facts())

    def _facts(self) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"options": self.options, "started": now, "versions": versions(), "machine": machine()}

    def _clear(self, stored: dict[str, Any]) -> None:
        """Remove what this package wrote, and nothing else; run.json is there all along, since without it no run is."""
        write_json(self.path / RUN_FILE, stored | {"status": "running"})  # no longer finished, should this be killed
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for name in (*stored.get("files", ()), METRICS_FILE):
            _remove(self.path / name)
        self._begin()

    def last_checkpoint(self) -> Path | None:
        """The complete checkpoint with the most steps."""
        complete = [folder for folder in self.checkpoints.glob("checkpoint-*") if _is_complete(folder)]
        return max(complete, key=checkpoint_step, default=None)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for the result; when the block ends well its files take their places, config.json last."""
        folder = self.path / STAGING
        folder.mkdir()
        yield folder
        for weights in folder.glob("*.safetensors"):
            weights.chmod(folder.stat().st_mode & 0o666)  # safetensors leaves 0600, which a server could not read
        for file in sorted(folder.iterdir(), key=lambda file: file.name == "config.json"):
            _remove(self.path / file.name)
            os.replace(file, self.path / file.name)
        folder.rmdir()

    def finish(self, report: dict[str, Any], *, files: Iterable[str]) -> None:
        """Declare the run finished and drop its checkpoints."""
        stored = self.stored() or self._facts()
        done = {"status": "finished", "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        write_json(self.path / RUN_FILE, stored | done | {"report": report, "files": sorted(files)})
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def checkpoint_step(folder: Path) -> int:
    """The optimizer step of a `checkpoint-N` folder."""
    return int(folder.name.removeprefix("checkpoint-"))


def mark_complete(folder: Path) -> None:
    """Write the mark without which a checkpoint does not count."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.name != COMPLETE_FILE}
    write_json(folder / COMPLETE_FILE, sizes)


def _is_complete(folder: Path) -> bool:
    try:
        sizes = read_json(folder / COMPLETE_FILE)
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, DataError):
        return False


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    new = json.loads(json.dumps(new))  # tuples become lists, as in the file
    return [f"{key} {old.get(key)} -> {new.get(key)}" for key in sorted(old | new) if old.get(key) != new.get(key)]


def cut_metrics(path: Path, *, last_step: int) -> None:
    """Drop the lines of steps after `last_step`: a resumed run will write them again."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if (step := _step(line)) is not None and step <= last_step]
    with atomic_write(path) as file:
        file.write("".join(line + "\n" for line in kept))


def _step(line: str) -> int | None:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # the line that a killed process did not end
        return None


def digest_of_tasks(tasks: Tasks) -> str:
    """A hash of all rows in their order."""
    sha = hashlib.sha256()
    for row in tasks.rows:
        sha.update(repr(row.key).encode())
    return sha.hexdigest()[:16]


def versions() -> dict[str, str]:
    """The versions that decide a run's numbers."""
    names = ("tasc-lm", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def machine() -> dict[str, Any]:
    """What the run is computed on."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }
