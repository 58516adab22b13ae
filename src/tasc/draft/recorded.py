"""What decoding did, request by request: the log that a replay reads and a drafter can learn from.

A log is a JSONL file. Its first line says what wrote it, every further line is one request. Requests are appended as
whole lines in one write, so a log can be followed while it grows, and a run that was killed leaves at most one
unfinished line, which reading skips and the next append removes. Several processes may append to one log.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasc.errors import DataError, FingerprintError
from tasc.files import lock

FORMAT, VERSION = "tasc-recorded", 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it was decoded, in ids of the model.

    Attributes:
        prompt_ids: the prompt as the drafter saw it.
        output_ids: what was produced, the end token included where it came.
        drafted: tokens verified in each pass that the row took part in, the prompt's pass first.
        accepted: how many of them were the target's own choice; of a draft that goes past the end of the output, only
            those that were kept count. A pass brings `min(accepted + 1, what is left of the output)` ids.
        limit: most ids the output could get, which bounds the last drafts; None where none was set.
        ms: the row's share of the time of its passes and drafts, in milliseconds; None where it was not measured.
        slot: the row's place among those it shared its first pass with; 0 begins a new batch.
        depths: most drafted tokens one behind the other in each pass, fewer than `drafted` where the draft was a tree; default:
            all were chains.

    Raises:
        DataError: the passes do not add up to the output.

    Examples:
        >>> recorded = Recorded((5, 6), (7, 8, 9, 2), drafted=(3, 2), accepted=(1, 1))
        >>> recorded.passes, recorded.tokens_per_pass
        (2, 2.0)
    """

    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    drafted: tuple[int, ...]
    accepted: tuple[int, ...]
    limit: int | None = None
    ms: float | None = None
    slot: int = 0
    depths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.depths:
            object.__setattr__(self, "depths", self.drafted)
        if not len(self.drafted) == len(self.accepted) == len(self.depths):
            raise DataError(
                f"{len(self.drafted)} passes drafted, {len(self.accepted)} accepted, {len(self.depths)} depths; record all of "
                "each"
            )
        left = len(self.output_ids)
        for drafted, depth, accepted in zip(self.drafted, self.depths, self.accepted, strict=True):
            if depth > drafted or (drafted and not depth):
                raise DataError(f"a pass drafted {drafted} tokens, {depth} of them in a row; record it again")
            if not 0 <= accepted <= depth or left < 1 or accepted > left:
                raise DataError(f"a pass drafted {drafted} and accepted {accepted} of {left} ids left; record it again")
            left -= min(accepted + 1, left)
        if left:
            raise DataError(f"{left} of {len(self.output_ids)} output ids come from no pass; record it again")

    @property
    def passes(self) -> int:
        """Forward passes that the row took part in."""
        return len(self.accepted)

    def took_the_passes_of(self, other: "Recorded") -> bool:
        """Whether both drafted and accepted as many tokens in each pass."""
        return (self.drafted, self.depths, self.accepted) == (other.drafted, other.depths, other.accepted)

    @property
    def tokens_per_pass(self) -> float:
        """Output ids per forward pass; 0.0 where there was no pass."""
        return len(self.output_ids) / len(self.accepted) if self.accepted else 0.0


@dataclass(frozen=True, slots=True)
class Log:
    """A log as it was read.

    Attributes:
        about: what wrote it: `fingerprint` of the drafter, digest of the `ngrams` that its ids mean ("": none), options, model,
            as far as they were given.
        requests: in the order in which they were decoded, batch by batch.
    """

    about: dict[str, Any]
    requests: list[Recorded] = field(default_factory=list)


def append_log(
    path: str | os.PathLike[str], requests: Iterable[Recorded], *, about: dict[str, Any] | None = None
) -> None:
    """Append requests to a log, which is made if need be.

    Args:
        path: the JSONL file.
        requests: written in one piece.
        about: goes into the first line of a new log; its `fingerprint` and `ngrams` must be those of the log it is appended to.

    Raises:
        DataError: `path` is another kind of file.
        FingerprintError: the log is of another tokenizer, or of other n-grams.
    """
    target = Path(path)
    lines = [json.dumps(_to_json(request), allow_nan=False) + "\n" for request in requests]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a+b") as file:
        lock(file.fileno())  # another process may be in the middle of its lines
        file.seek(0)
        if header := file.readline():
            if other := other_ids(_header(target, header), about or {}):
                raise FingerprintError(f"{target}: recorded with {other[0]}, got {other[1]}; write to another file")
            _remove_unfinished_line(file)
        else:
            first = {"format": FORMAT, "version": VERSION, **(about or {})}
            lines.insert(0, json.dumps(first, allow_nan=False) + "\n")
        file.write("".join(lines).encode())


def other_ids(recorded: dict[str, Any], given: dict[str, Any]) -> tuple[str, str] | None:
    """In what ids of a log mean something else than those of a drafter: (how the log has it, what was given), None if in nothing.

    What either does not say, differs in nothing: files may be older than that.

    Args:
        recorded: `Log.about`.
        given: the same of a drafter: `fingerprint` and `ngrams`.
    """
    for key, what in (("fingerprint", "tokenizer"), ("ngrams", "n-grams")):
        old, new = recorded.get(key), given.get(key)
        if old is not None and new is not None and old != new:
            return f"{what} {old or 'none'}", str(new or "none")
    return None


def read_log(path: str | os.PathLike[str]) -> Log:
    """Read a log; an unfinished last line is left out.

    Raises:
        DataError: naming the line that cannot be used, and why.
        OSError: the file cannot be opened.
    """
    requests: list[Recorded] = []
    with Path(path).open("rb") as file:
        about = _header(path, file.readline())
        for number, line in enumerate(file, 2):
            if not line.endswith(b"\n"):
                break
            try:
                requests.append(_from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError, RecursionError, DataError) as error:
                raise DataError(
                    f"{path}: line {number} is no recorded request ({error}); record the run again"
                ) from error
    return Log({key: value for key, value in about.items() if key not in ("format", "version")}, requests)


def _to_json(request: Recorded) -> dict[str, Any]:
    return {
        "prompt_ids": list(request.prompt_ids),
        "output_ids": list(request.output_ids),
        "drafted": list(request.drafted),
        "accepted": list(request.accepted),
        "limit": request.limit,
        "ms": None if request.ms is None else round(request.ms, 4),
        "slot": request.slot,
        **({} if request.depths == request.drafted else {"depths": list(request.depths)}),
    }


def _from_json(row: Any) -> Recorded:
    if not isinstance(row, dict):
        raise ValueError("not an object")
    ms = row.get("ms")
    if ms is not None and not (isinstance(ms, int | float) and math.isfinite(ms) and ms >= 0):
        raise ValueError(f"ms is {ms!r}")
    lists = [_ids(name, row[name]) for name in ("prompt_ids", "output_ids", "drafted", "accepted")]
    limit = row.get("limit")
    limit = None if limit is None else _ids("limit", [limit])[0]
    slot, depths = _ids("slot", [row.get("slot", 0)])[0], _ids("depths", row.get("depths", []))
    return Recorded(*lists, limit=limit, ms=ms, slot=slot, depths=depths)


def _ids(name: str, values: Sequence[Any]) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 2**31 for value in values):
        raise ValueError(f"{name} must be a list of numbers from 0 to 2**31 - 1")
    return tuple(values)


def _header(path: str | os.PathLike[str], line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path}: not a log of recorded requests; write one with 'tasc generate --record'")
    if found.get("version") != VERSION:
        raise DataError(f"{path}: version {found.get('version')}, expected {VERSION}; record the run again")
    return found


def _remove_unfinished_line(file: Any) -> None:
    """Cut what follows the last line break, from the end backwards."""
    end = file.seek(0, os.SEEK_END)
    position = end
    while position > 0:
        start = max(0, position - 65536)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            if start + found + 1 < end:
                file.truncate(start + found + 1)
            return
        position = start
