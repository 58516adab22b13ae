"""A run with every section of a report, put together by hand, for tests of the page."""

from tasc.report.data import (
    Acceptance,
    BudgetPoint,
    Budgets,
    DraftedToken,
    Drafts,
    Estimate,
    Metric,
    Ngram,
    Piece,
    Report,
    Run,
    Sample,
    Speed,
    Step,
    System,
    TimeShares,
    Training,
    Tried,
    Walk,
)


def estimate(value: float, spread: float = 0.1) -> Estimate:
    return Estimate(value, value - spread, value + spread)


def walk(text: str = "kitchen", *, system: str = "drafts") -> Walk:
    """Three passes: a right draft, one that is cut short, none."""
    right = tuple(DraftedToken(piece, "corpus", True) for piece in ("intent", ":", " light"))
    half = (DraftedToken("_on", "neighbour", True), DraftedToken(text, "prompt", False))
    return Walk(
        system,
        f"turn on the {text}",
        7,
        (Step("", right, "_"), Step("intent: light_", half, ","), Step("intent: light__on,", (), "<eos>")),
    )


def systems(text: str = "") -> tuple[System, ...]:
    """Plain decoding, a model with n-grams, and drafts."""
    return (
        System(
            name=f"baseline{text}",
            quality=(Metric("joint_accuracy", "joint accuracy", estimate(0.8)),),
            budget=0,
            passes_per_output=20.5,
            speeds=(Speed(8, 12.0, None), Speed(1, 30.0, None)),
            time=TimeShares(8, 2.0, 0.0, 10.0),
            passes=(18, 20, 21, 23),
        ),
        System(
            name=f"enriched{text}",
            quality=(Metric("joint_accuracy", "joint accuracy", estimate(0.79)),),
            difference=estimate(-0.01, 0.03),
            budget=300,
            passes_per_output=5.2,
            speeds=(Speed(8, 4.0, estimate(3.0)), Speed(1, 8.0, estimate(3.75))),
            time=TimeShares(8, 2.0, 0.0, 2.0),
            passes=(5, 5, 4, 7),
        ),
        System(
            name=f"drafts{text}",
            budget=0,
            passes_per_output=3.4,
            speeds=(Speed(8, 5.0, estimate(2.4)), Speed(1, 7.0, estimate(4.5))),
            time=TimeShares(8, 2.0, 0.5, 2.5),
            passes=(3, 3, 4, 2),
            changed=0,
        ),
    )


def full_run(text: str = "kitchen", *, name: str = "demo-1") -> Run:
    """Every section, with `text` wherever data or a model may put text."""
    pieces = (Piece("intent: "), Piece(text, True))
    drafts = Drafts(
        "drafts",
        5.1,
        6.2,
        (Acceptance.of("1", 100, 80), Acceptance.of("2", 70, 40)),
        (Acceptance.of("corpus", 150, 110), Acceptance.of("prompt", 20, 10)),
    )
    return Run(
        name=name,
        kind="demo",
        facts=(("model", text), ("rows", "4")),
        warning=f"Beware of {text}.",
        verdict=(f"drafts: 4.5 times as fast, {text}.", "enriched: 3.8 times as fast."),
        next_steps=(f"Try {text}.",),
        systems=systems(),
        test_rows=4,
        ngrams=tuple(Ngram(f"{text} {k}", 4, 30 - k, 90 - 3 * k) for k in range(14)),
        n_ngrams=300,
        samples=(Sample(f"turn on {text}", f"intent: {text}", text, pieces, pieces),),
        budgets=Budgets((BudgetPoint(0, estimate(20.0), 1.0), BudgetPoint(300, estimate(5.0), 0.3)), 300),
        drafts=(drafts,),
        walks=(walk(text), walk(text)),
        training=(Training(text, ((1, 3.0), (2, 2.0), (3, 1.0)), ((2, 0.3), (3, 0.2))),),
        tried=(Tried("weights kept", 1, 12.0), Tried("weights kept", 4, 9.0), Tried("weights learnt", 4, 8.5)),
    )


def full_report(text: str = "kitchen") -> Report:
    return Report("demo-1", (full_run(text),))
