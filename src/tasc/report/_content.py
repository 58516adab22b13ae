"""Tells what files hold by their first bytes, whatever they are called."""

import json
from pathlib import Path
from typing import Literal

from tasc.draft.file import FORMAT as DRAFTER
from tasc.draft.recorded import FORMAT as LOG

Content = Literal["log", "outputs", "drafter", "json", "other"]
LONGEST_LINE = 1 << 24  # bytes of a first line that is looked at
BEGINNING = 1024  # bytes in which a drafter file names its format


def content_of(path: Path) -> Content:
    """What a file holds, by its first bytes; its name does not matter.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        start = file.read(BEGINNING)
        if start[8:9] == b"{" and f'"{DRAFTER}"'.encode() in start:
            return "drafter"
        if start[:1] != b"{":
            return "other"
        file.seek(0)
        line, more = file.readline(LONGEST_LINE), file.read(1)
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return "json"  # on several lines, perhaps
    if isinstance(found, dict) and found.get("format") == LOG:
        return "log"
    needed = ("prompt", "completion", "reference")
    if isinstance(found, dict) and all(isinstance(found.get(k), str) for k in needed):
        return "outputs"
    return "other" if more.strip() else "json"


def contents_of(folder: Path) -> dict[Content, list[Path]]:
    """The files of a folder by what they hold, sorted by name; not those of its folders.

    Raises:
        OSError: a file cannot be opened.
    """
    found: dict[Content, list[Path]] = {"log": [], "outputs": [], "drafter": [], "json": [], "other": []}
    for path in sorted(folder.iterdir()):
        if path.is_file():
            found[content_of(path)].append(path)
    return found
