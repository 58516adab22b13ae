"""Task examples in: rows of prompt and completion from JSONL, CSV, Parquet, a folder of splits or the Hub.

This module decides what a usable row is; `_readers` knows the file formats. Nothing here knows a tokenizer.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tasc.corpus._readers import BadRecord, Record, open_records, split_places
from tasc.errors import DataError, OptionError

# how many reasons for skipped rows are kept; the count is always complete
_KEPT_REASONS = 20
_KEPT_COLUMNS = 12
_USUAL_SPLITS = ("train", "validation", "test")
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """One task example.

    Attributes:
        prompt: what is asked; for a chat row the content of the last user turn before the completion.
        completion: what the model should write, never empty.
        messages: for a chat row, the turns before the completion (`role` and `content` each); else None.
    """

    prompt: str
    completion: str
    messages: tuple[dict[str, str], ...] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for equal rows, hashable."""
        turns = (self.prompt,) if self.messages is None else _texts(self.messages)
        return (*turns, self.completion)


@dataclass(frozen=True, slots=True)
class Tasks(Sequence[Row]):
    """Rows of one file or split, in file order.

    Attributes:
        rows: the usable rows.
        source: where they came from, for messages.
        n_skipped: bad rows left out (only with `skip_bad=True`).
        skipped: the reasons, for the first 20 of them.
    """

    rows: tuple[Row, ...]
    source: str = "memory"
    n_skipped: int = 0
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Tasks": ...
    def __getitem__(self, index: int | slice) -> "Row | Tasks":
        if isinstance(index, slice):
            return Tasks(self.rows[index], self.source)
        return self.rows[index]

    @property
    def prompts(self) -> list[str]:
        """The prompt of each row; of a chat row the last user turn."""
        return [row.prompt for row in self.rows]

    @property
    def completions(self) -> list[str]:
        """The completion of each row."""
        return [row.completion for row in self.rows]


def load_tasks(
    path_or_name: str | os.PathLike[str],
    *,
    split: str | None = None,
    prompt_column: str = "prompt",
    completion_column: str = "completion",
    messages_column: str = "messages",
    references: bool = True,
    skip_bad: bool = False,
    limit: int | None = None,
) -> Tasks:
    """Load task examples.

    Args:
        path_or_name: a `.jsonl`/`.ndjson` file (one object a line), a `.json` one (so too, or one array), `.csv` or
            `.parquet`, all but the last also with `.gz`; a folder with one such file (or several shards) for each split; or a Hub name
            `owner/name` or `owner/name:config`, loaded through `datasets`.
        split: which split of a folder or Hub name; default `train`. `val`, `valid` and `dev` are the same as
            `validation`.
        prompt_column: column of the prompt; an empty prompt is allowed.
        completion_column: column of the completion.
        messages_column: column of a chat, a list of `{"role", "content"}`; used for rows without a completion column.
            The last assistant turn is the completion, the turns before it the prompt, turns after it are dropped.
        references: False for rows that are to be answered: a missing or empty completion is `""`, and a chat that does not end
            with the assistant's turn is all prompt.
        skip_bad: leave bad rows out and count them instead of raising.
        limit: stop after so many usable rows.

    Raises:
        DataError: no such file, no usable row, or (without `skip_bad`) a bad row: the message names file, line and
            reason.
        OptionError: `split` with a single file, or `limit` below 1.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"limit must be at least 1, got {limit}")
    columns = _Columns(prompt_column, completion_column, messages_column, references)
    source, records = open_records(os.fspath(path_or_name), split)
    skipped = _Skipped(skip_bad)
    rows = tuple(islice(_rows(records, columns, skipped), limit))
    if not rows:
        raise DataError(_nothing_usable(source, skipped))
    return Tasks(rows, source, skipped.count, tuple(skipped.reasons))


def load_held_out(path_or_name: str | os.PathLike[str], *, split: str | None = None, **options: Any) -> Tasks:
    """`load_tasks` for rows that are held out: of a folder or Hub name the split `validation`, unless another is named."""
    if split is None and not Path(path_or_name).expanduser().is_file():
        split = "validation"
    return load_tasks(path_or_name, split=split, **options)


def held_out_rows(tasks: Tasks, *, seed: int = 0) -> NDArray[np.bool_]:
    """Which rows to hold out: a tenth of the distinct ones, drawn by chance; equal rows stay on one side.

    Returns:
        bool[n_rows]; none of rows that are all equal.

    Examples:
        >>> int(held_out_rows(Tasks(tuple(Row(str(n % 50), "x") for n in range(100)))).sum())
        10
    """
    groups: dict[tuple[str, ...], int] = {}
    group_of_row = np.array([groups.setdefault(row.key, len(groups)) for row in tasks])
    chosen = np.zeros(len(groups), np.bool_)
    if len(groups) > 1:
        n_held_out = max(1, round(HELD_OUT_SHARE * len(groups)))
        chosen[np.random.default_rng(seed).permutation(len(groups))[:n_held_out]] = True
    return chosen[group_of_row]


def files_read(name: str, split: str | None = None) -> list[Path]:
    """Files that the rows of a path come from: itself, or of a folder those of `split` and of the usual splits."""
    path = Path(name).expanduser()
    if not path.is_dir():
        return [path]
    splits = {split or "train", *_USUAL_SPLITS}
    return [file for one in splits for _, found in split_places(path, one) for file in found]


def shared_rows(a: Tasks, b: Tasks) -> int:
    """How many distinct rows of `b` also stand in `a`.

    Examples:
        >>> shared_rows(Tasks((Row("p", "x"), Row("q", "y"))), Tasks((Row("p", "x"), Row("p", "x"), Row("p", "y"))))
        1
    """
    return len({row.key for row in a} & {row.key for row in b})


@dataclass(frozen=True, slots=True)
class _Columns:
    prompt: str
    completion: str
    messages: str
    references: bool


class _Skipped:
    """Bad rows: raise the first, or count them."""

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed
        self.count = 0
        self.reasons: list[str] = []

    def add(self, place: str, reason: str) -> None:
        if not self.allowed:
            raise DataError(f"{place}: {reason}; fix the line or pass --skip-bad")
        self.count += 1
        if len(self.reasons) < _KEPT_REASONS:
            self.reasons.append(f"{place}: {reason}")


def _rows(records: Iterator[Record | BadRecord], columns: _Columns, skipped: _Skipped) -> Iterator[Row]:
    for record in records:
        if isinstance(record, BadRecord):
            skipped.add(record.place, record.reason)
            continue
        try:
            yield _row(record.value, columns)
        except _BadRowError as error:
            skipped.add(record.place, str(error))


class _BadRowError(Exception):
    """Why a record is not a row."""


def _row(record: dict[str, Any], columns: _Columns) -> Row:
    if columns.completion not in record and record.get(columns.messages) is not None:
        return _chat_row(record[columns.messages], columns)
    if not columns.references and record.get(columns.completion) is None:
        record = record | {columns.completion: ""}
    for column in (columns.prompt, columns.completion):
        if column not in record:
            raise _BadRowError(_missing(column, record))
    prompt = _text(record[columns.prompt], repr(columns.prompt))
    completion = _text(record[columns.completion], repr(columns.completion))
    if columns.references and not completion.strip():
        raise _BadRowError(f"empty completion (column {columns.completion!r})")
    return Row(prompt, completion)


def _chat_row(turns: Any, columns: _Columns) -> Row:
    column = columns.messages
    if not isinstance(turns, list):
        raise _BadRowError(f"{column!r} is {_kind(turns)}, expected a list of turns with 'role' and 'content'")
    messages = tuple(_turn(turn, f"turn {number} of {column!r}") for number, turn in enumerate(turns, 1))
    if not columns.references and messages and messages[-1]["role"] != "assistant":
        return Row(_last_of_user(messages), "", messages)
    last = max((i for i, turn in enumerate(messages) if turn["role"] == "assistant"), default=None)
    if last is None:
        raise _BadRowError(f"{column!r} has no assistant turn, so there is no completion")
    completion = messages[last]["content"]
    if columns.references and not completion.strip():
        raise _BadRowError(f"empty completion (last assistant turn of {column!r})")
    before = messages[:last]
    return Row(_last_of_user(before), completion, before)


def _last_of_user(messages: tuple[dict[str, str], ...]) -> str:
    return next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), "")


def _turn(turn: Any, where: str) -> dict[str, str]:
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
        raise _BadRowError(f"{where} is not an object with 'role' and 'content'")
    if turn.get("tool_calls"):
        raise _BadRowError(f"{where} has 'tool_calls', of which nothing would be learnt; write them into its 'content'")
    return {key: _text(turn[key], f"{key!r} of {where}") for key in ("role", "content")}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _BadRowError(f"{where} is {_kind(value)}, expected text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _BadRowError(f"{where} is not valid Unicode text (character {error.start + 1})") from error
    return value


def _missing(column: str, record: dict[str, Any]) -> str:
    names = [str(name) for name in record]
    shown = ", ".join(names[:_KEPT_COLUMNS]) + (", ..." if len(names) > _KEPT_COLUMNS else "")
    return f"no column {column!r}; found: {shown or 'none'} (--prompt-column and --completion-column name others)"


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        dict: "an object",
        list: "a list",
        bool: "true/false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)


def _nothing_usable(source: str, skipped: _Skipped) -> str:
    if skipped.count:
        return f"{source}: none of {skipped.count} rows is usable, the first: {skipped.reasons[0]}"
    return f"{source}: empty, no rows; write one JSON object with 'prompt' and 'completion' a line"


def _texts(messages: tuple[dict[str, str], ...]) -> tuple[str, ...]:
    return tuple(text for turn in messages for text in (turn["role"], turn["content"]))
