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
_CHUNK = 1 << 20


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
    """Write the sidecar, atomically, and return what it says.

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
        made_from = {"file": os.fspath(source), "sha256": _sha256(source)} | made_from
    about = {
        "format": FORMAT,
        "version": VERSION,
        "target": target,
        "tasc": version("tasc-lm"),
        "tokenizer": {
            "fingerprint": drafter.fingerprint,
            "name": drafter.tokenizer,
            "vocab_size": drafter.vocab_size,
            "eos_id": drafter.eos_id,
            "vocabulary": origin.vocabulary,
        },
        "made_from": made_from,
        "options": options,
        "counts": counts,
        "files": {
            name: {"file": file.name, "bytes": file.stat().st_size, "sha256": _sha256(file)}
            for name, file in files.items()
        },
        "flags": flags,
    }
    write_json(path, about)
    return about


def _sha256(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
