"""How a drafter was built, and what its ids mean."""

from dataclasses import dataclass
from typing import Literal

from tasc.errors import OptionError

Preset = Literal["best", "paper"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What the ids of a drafter mean.

    Attributes:
        fingerprint: of the tokenizer, see `tasc.corpus.fingerprint`; `""` fits any.
        tokenizer: its folder or Hub name when the drafter was built, for `tasc replay`.
        template: the prompt template, see `tasc.corpus.make_template`.
        vocabulary: folder of the enriched vocabulary whose ids the drafter speaks; `""` for base ids.
    """

    fingerprint: str = ""
    tokenizer: str = ""
    template: str = "plain"
    vocabulary: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How a drafter was built.

    Attributes:
        preset: "best" or "paper".
        min_rows: n-grams in fewer distinct rows are not in the file.
        n_max, p_min, lam: of the paper's drafter: longest n-gram, least count, weight of the corpus.
    """

    preset: Preset = "best"
    min_rows: int = 1
    n_max: int = 4
    p_min: int = 5
    lam: float = 0.75

    def __post_init__(self) -> None:
        if self.preset not in ("best", "paper"):
            raise OptionError(f"preset must be best or paper, got {self.preset!r}")
        if self.min_rows < 1:
            raise OptionError(f"min_rows must be at least 1, got {self.min_rows}")
