"""What a report shows, as plain values: read from run folders by `runs.py`, shown by `html.py`, and JSON-ready."""

from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal

from tasc.evals.stats import wilson

Kind = Literal["demo", "train", "enrich", "generate", "eval", "compare", "tune"]


def _require_numbers(one: object, *names: str, optional: tuple[str, ...] = ()) -> None:
    """A damaged document must not get as far as the drawing."""
    for name in (*names, *optional):
        value = getattr(one, name)
        if not isinstance(value, Real) and not (value is None and name in optional):
            raise TypeError(f"{name} must be a number, got {value!r}")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and the ends of its interval; both None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _require_numbers(self, "value", optional=("low", "high"))


@dataclass(frozen=True, slots=True)
class Metric:
    """A quality measure of a system, from 0 to 1.

    Attributes:
        name: as in results.json.
        label: for people.
        estimate: with its 95% interval.
    """

    name: str
    label: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Speed:
    """Time at one batch size.

    Attributes:
        batch_size: rows in one forward pass.
        ms: per output.
        speed_up: over the reference, with its range over the rounds; None where it is not to be compared.
    """

    batch_size: int
    ms: float
    speed_up: Estimate | None

    def __post_init__(self) -> None:
        _require_numbers(self, "batch_size", "ms")


@dataclass(frozen=True, slots=True)
class TimeShares:
    """Where the time of an output went, in milliseconds, at one batch size."""

    batch_size: int
    prefill_ms: float
    drafting_ms: float
    other_passes_ms: float

    def __post_init__(self) -> None:
        _require_numbers(self, "batch_size", "prefill_ms", "drafting_ms", "other_passes_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way to decode the task's rows; the first of a run is its reference.

    Attributes:
        name: for tables and charts.
        quality: the headline first; empty where drafts change no output, so that the model's own holds.
        difference: of the headline to the reference's, with its 95% interval.
        budget: n-grams of the model.
        passes_per_output: forward passes.
        tokens_per_output: base tokens.
        speeds: by batch size, as they were measured.
        time: where the time went.
        passes: of each test row.
        changed: outputs that drafts changed; None for a system without drafts.
    """

    name: str
    quality: tuple[Metric, ...] = ()
    difference: Estimate | None = None
    budget: int | None = None
    passes_per_output: float | None = None
    tokens_per_output: float | None = None
    speeds: tuple[Speed, ...] = ()
    time: TimeShares | None = None
    passes: tuple[int, ...] = ()
    changed: int | None = None

    def __post_init__(self) -> None:
        _require_numbers(self, optional=("budget", "passes_per_output", "tokens_per_output", "changed"))


@dataclass(frozen=True, slots=True)
class Ngram:
    """An n-gram that became a token: its text, base tokens, occurrences in training, tokens saved there."""

    text: str
    tokens: int
    count: int
    saved: int


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one token, and whether it is an n-gram."""

    text: str
    is_ngram: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One output of a model, cut into base tokens and into enriched tokens.

    Attributes:
        prompt, output, reference: texts.
        before, after: the pieces; together they are the output.
    """

    prompt: str
    output: str
    reference: str
    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """Expected decoding of held-out outputs with so many n-grams.

    Attributes:
        budget: n-grams.
        steps: expected per output, with its 95% interval.
        cost: expected time, 1 without n-grams.
    """

    budget: int
    steps: Estimate
    cost: float


@dataclass(frozen=True, slots=True)
class Budgets:
    """The curve in ascending order, and the budget of this run."""

    points: tuple[BudgetPoint, ...]
    chosen: int


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Drafted tokens of one kind, and how many of them were accepted; None where only the share is known."""

    name: str
    share: Estimate
    drafted: int | None
    accepted: int | None

    @classmethod
    def of(cls, name: str, drafted: int, accepted: int) -> "Acceptance":
        """From counts, with the 95% interval of a share."""
        share = accepted / drafted if drafted else 0.0
        return cls(name, Estimate(share, *wilson(accepted, drafted)), drafted, accepted)


@dataclass(frozen=True, slots=True)
class Drafts:
    """What drafts did for a system.

    Attributes:
        system: its name.
        tokens_per_pass: end tokens counted.
        drafted_per_pass: tokens verified.
        by_position: of the first, second, ... place in a draft: passes whose draft got there, and those that accepted a token.
        by_source: where drafted tokens came from.
    """

    system: str
    tokens_per_pass: float
    drafted_per_pass: float
    by_position: tuple[Acceptance, ...]
    by_source: tuple[Acceptance, ...]


@dataclass(frozen=True, slots=True)
class DraftedToken:
    """One drafted token."""

    text: str
    source: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One target pass of a generation.

    Attributes:
        before: the output so far.
        drafted: the tokens that were verified: those that stand in their order, then the others, likeliest first.
        own: what the target added; None where the draft ended the output.
    """

    before: str
    drafted: tuple[DraftedToken, ...]
    own: str | None

    @property
    def n_accepted(self) -> int:
        """Drafted tokens that were kept."""
        return sum(token.accepted for token in self.drafted)


@dataclass(frozen=True, slots=True)
class Walk:
    """One generation, pass by pass.

    Attributes:
        system: whose.
        prompt: its text.
        n_tokens: of the output in the model's tokens, the end token included.
        steps: one a pass, from the first on.
        left_out: passes of a long generation that are not among them.
    """

    system: str
    prompt: str
    n_tokens: int
    steps: tuple[Step, ...]
    left_out: int = 0

    @property
    def n_passes(self) -> int:
        """Of the whole generation."""
        return len(self.steps) + self.left_out


@dataclass(frozen=True, slots=True)
class Training:
    """A fine-tuning run's curves: (step, nats per target token), and (step, nats per output byte) of the evaluations."""

    name: str
    loss: tuple[tuple[int, float], ...]
    evaluations: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate of `tasc tune`: its name, longest draft and milliseconds per output."""

    name: str
    max_draft: int
    ms: float

    def __post_init__(self) -> None:
        _require_numbers(self, "max_draft", "ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything a report knows of one run; what is empty is not shown.

    Attributes:
        name: for headings and charts.
        kind: what was read.
        facts: label and value of what is worth knowing about it.
        warning: why its figures mean little.
        verdict: sentences.
        next_steps: sentences.
        systems: the reference first.
        test_rows: rows that quality was measured on.
        ngrams: the most useful first.
        n_ngrams: all of them.
        samples: outputs cut into tokens.
        budgets: expected cost by number of n-grams.
        drafts: what was accepted, by place and by source.
        walks: generations, pass by pass.
        training: losses by step.
        tried: candidates of `tasc tune`.
    """

    name: str
    kind: Kind
    facts: tuple[tuple[str, str], ...] = ()
    warning: str = ""
    verdict: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    systems: tuple[System, ...] = ()
    test_rows: int | None = None
    ngrams: tuple[Ngram, ...] = ()
    n_ngrams: int = 0
    samples: tuple[Sample, ...] = ()
    budgets: Budgets | None = None
    drafts: tuple[Drafts, ...] = ()
    walks: tuple[Walk, ...] = ()
    training: tuple[Training, ...] = ()
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The runs of one page, side by side.

    Attributes:
        title: of the page.
        runs: at least one.
    """

    title: str
    runs: tuple[Run, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)
