"""The sidecar of an export: a JSON file that says what the files beside it were made from, and how to use them."""

import hashlib
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasc.draft import Drafter
from tasc.files import write_json

FORMAT, VERSION = "tasc-export", 1


def write_sidecar(
    path: str | os.PathLike[str],
    target: str,
    drafter: Drafter,
    *,
    source: str | os.PathLike[str] | None,
    options: dict[str, Any],
    counts: dict[str, Any],
    files: dict[str, Path],
    flags: list[str],
) -> dict[str, Any]:
    """Write the sidecar of an export that was made from a drafter, atomically, and return what it says.

    Args:
        target: name of the export.
        source: the drafter's file, if it has one.
        options: of the export.
        counts: what was counted.
        files: written before, by name; their sizes and SHA-256 are recorded, and their names without folders.
        flags: the engine's command line options that use them.
    """
    index, origin = drafter.index, drafter.origin
    made_from: dict[str, Any] = {
        "rows": index.n_rows,
        "tokens": int((index.tokens < index.start_id).sum()),
        "options": asdict(drafter.options),
    }
    if source is not None:
        made_from = {"file": os.fspath(source), "sha256": sha256(source)} | made_from
    tokenizer = {
        "fingerprint": drafter.fingerprint,
        "name": drafter.tokenizer,
        "vocab_size": drafter.vocab_size,
        "eos_id": drafter.eos_id,
        "vocabulary": origin.vocabulary,
    }
    return write_about(
        path, target, tokenizer=tokenizer, made_from=made_from, options=options, counts=counts, files=files, flags=flags
    )


def write_about(
    path: str | os.PathLike[str],
    target: str,
    *,
    tokenizer: dict[str, Any],
    made_from: dict[str, Any],
    options: dict[str, Any],
    counts: dict[str, Any],
    files: dict[str, Path],
    flags: list[str],
) -> dict[str, Any]:
    """Write the sidecar of any export, atomically, and return what it says; see `write_sidecar`.

    Args:
        tokenizer: its `fingerprint` and what else tells it from others.
        made_from: what the export was made from.
    """
    about = {
        "format": FORMAT,
        "version": VERSION,
        "target": target,
        "tasc": version("tasc-lm"),
        "tokenizer": tokenizer,
        "made_from": made_from,
        "options": options,
        "counts": counts,
        "files": {
            name: {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)}
            for name, file in files.items()
        },
        "flags": flags,
    }
    write_json(path, about)
    return about


def sha256(path: str | os.PathLike[str]) -> str:
    """Of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
