"""How a drafter was built, and what its ids mean."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from tasc.errors import OptionError

Preset = Literal["best", "paper"]
# most tokens of a draft where the drafter was not tuned: with the one fed anyway 16, as far as `tasc profile` measures
MAX_DRAFT = 15
LONGEST_DRAFT = 1024


@dataclass(frozen=True, slots=True)
class Origin:
    """What the ids of a drafter mean.

    Attributes:
        fingerprint: of the tokenizer, see `tasc.corpus.fingerprint`; `""` fits any.
        tokenizer: its folder or Hub name when the drafter was built, for `tasc replay`.
        template: the prompt template, see `tasc.corpus.make_template`.
        vocabulary: folder of the enriched vocabulary whose ids the drafter speaks; `""` for base ids.
        ngrams: the digest of that vocabulary; `""` for base ids and in files that are older than it.
    """

    fingerprint: str = ""
    tokenizer: str = ""
    template: str = "plain"
    vocabulary: str = ""
    ngrams: str = ""

    @property
    def enriched(self) -> bool:
        """Whether the drafter speaks n-grams."""
        return bool(self.vocabulary or self.ngrams)


@dataclass(frozen=True, slots=True)
class Options:
    """How a drafter was built.

    Attributes:
        preset: "best" or "paper".
        min_rows: n-grams in fewer distinct rows are not in the file.
        n_max: of preset "paper": longest n-gram, context and next token together.
        p_min: of preset "paper": least count of an n-gram.
        lam: of preset "paper": weight of the corpus, from 0 to 1; the rest is the prompt's.
    """

    preset: Preset = "best"
    min_rows: int = 1
    n_max: int = 4
    p_min: int = 5
    lam: float = 0.75

    def __post_init__(self) -> None:
        if self.preset not in ("best", "paper"):
            raise OptionError(f"preset must be best or paper, got {self.preset!r}")
        for name in ("min_rows", "n_max", "p_min"):  # a file may hold any of JSON's values
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value < 1 << 31:
                raise OptionError(f"{name} must be a whole number from 1 to {(1 << 31) - 1}, got {value!r}")
        if self.n_max > 16:
            raise OptionError(f"n_max must be from 1 to 16, got {self.n_max}")
        if type(self.lam) not in (int, float) or not 0 <= self.lam <= 1:
            raise OptionError(f"lam must be from 0 to 1, got {self.lam!r}")


@dataclass(frozen=True, slots=True)
class Tuned:
    """How to decode with a drafter, as `tasc tune` found it.

    Attributes:
        max_draft: most drafted tokens per pass.
        cost: the step-cost curve it was tuned for, see `StepCost.to_json`.
        rows: held-out rows that the speed-up was predicted on.
        speedup: predicted speed-up over plain decoding there: low, middle and high end of its 95% interval.
    """

    max_draft: int
    cost: dict[str, Any]
    rows: int
    speedup: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 1 <= self.max_draft <= LONGEST_DRAFT:
            raise OptionError(f"max_draft must be from 1 to {LONGEST_DRAFT}, got {self.max_draft}")
        if len(self.speedup) != 3 or not all(math.isfinite(value) for value in self.speedup):
            raise OptionError(f"speedup must be three numbers, got {self.speedup}")
