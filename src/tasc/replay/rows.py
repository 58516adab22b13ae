"""Rows for tuning, divided by their content alone. Knows ids only."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.errors import DataError

Part = Literal["teach", "choose", "held_out"]
HELD_OUT, CHOOSE = 0.4, 0.2  # shares of the rows; the others teach
FEWEST_ROWS = 100  # distinct ones: some 40 held out, the least that an interval means something for
FEWEST_OF_PART = 5
ROOM = 1024  # ids that an output without a limit could be longer: its end must not be what ends a draft


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of known outputs.

    Attributes:
        prompts: as the drafter sees them.
        outputs: end tokens included where they came.
        limits: most ids that each output could get, None where there was no limit.

    Raises:
        DataError: not as many of each, or an empty output.
    """

    prompts: TokenCorpus
    outputs: TokenCorpus
    limits: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.outputs) == len(self.limits):
            raise DataError(
                f"{len(self.prompts)} prompts, {len(self.outputs)} outputs, {len(self.limits)} limits: give as many of "
                "each, row by row"
            )
        if len(self) and int(self.outputs.lengths.min()) == 0:
            row = int(self.outputs.lengths.argmin())
            raise DataError(f"output {row} has no tokens; every output holds at least its end token")

    def __len__(self) -> int:
        return len(self.outputs)

    def parts(self) -> "dict[Part, Rows]":
        """The rows that teach, choose and are held out, each in their order.

        A row's part follows from its content: equal rows lie in the same part, whatever other rows there are.

        Raises:
            DataError: too few distinct rows.
        """
        numbers = [_number(prompt, output) for prompt, output in zip(self.prompts, self.outputs, strict=True)]
        shares = np.array(numbers, np.float64) / 2**64
        places = {
            "held_out": np.flatnonzero(shares < HELD_OUT),
            "choose": np.flatnonzero((shares >= HELD_OUT) & (shares < HELD_OUT + CHOOSE)),
            "teach": np.flatnonzero(shares >= HELD_OUT + CHOOSE),
        }
        n_distinct = len(set(numbers))
        if n_distinct < FEWEST_ROWS or min(map(len, places.values())) < FEWEST_OF_PART:
            raise DataError(
                f"tuning needs at least {FEWEST_ROWS} distinct rows, got {n_distinct}; pass more validation rows"
            )
        return {part: self.take(rows) for part, rows in places.items()}  # type: ignore[return-value]

    def take(self, rows: NDArray[np.integer]) -> "Rows":
        """Some of the rows, in the given order."""
        return Rows(self.prompts.take(rows), self.outputs.take(rows), tuple(self.limits[row] for row in rows))

    def first(self, most_tokens: int) -> "Rows":
        """The first rows, whose outputs hold at most so many tokens together; at least one."""
        fit = int((np.cumsum(self.outputs.lengths) <= most_tokens).sum())
        return self.take(np.arange(min(max(fit, 1), len(self))))

    def with_rows(self, other: "Rows") -> "Rows":
        """These rows, then the others."""
        return Rows(
            TokenCorpus.from_rows([*self.prompts, *other.prompts]),
            TokenCorpus.from_rows([*self.outputs, *other.outputs]),
            self.limits + other.limits,
        )

    def finished(self, eos_id: int) -> "Rows":
        """The rows that were not cut at their limit."""
        kept = [
            row
            for row, (output, limit) in enumerate(zip(self.outputs, self.limits, strict=True))
            if limit is None or len(output) < limit or output[-1] == eos_id
        ]
        return self.take(np.array(kept, np.int64))

    def without_ends(self, eos_id: int) -> TokenCorpus:
        """The outputs without their end tokens."""
        return TokenCorpus.from_rows(ids[:-1] if ids[-1] == eos_id else ids for ids in self.outputs)

    def room(self) -> list[int]:
        """Limits for a replay."""
        pairs = zip(self.outputs, self.limits, strict=True)
        return [len(output) + ROOM if limit is None else limit for output, limit in pairs]


def _number(prompt: NDArray[np.int32], output: NDArray[np.int32]) -> int:
    """A number of 64 bits from a row's content."""
    content = np.concatenate([[len(prompt)], prompt, output]).astype("<i4").tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
