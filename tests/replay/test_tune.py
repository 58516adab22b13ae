"""Tuning on made-up tasks whose best drafter is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built import same_drafters
from tasc.corpus import TokenCorpus
from tasc.draft import Drafter, Options
from tasc.draft.cost import StepCost
from tasc.errors import DataError, OptionError
from tasc.replay.rows import Rows
from tasc.replay.seen import seen_rows
from tasc.replay.tune import LENGTHS, tune
from tasc.replay.verdict import verdict

EOS, SIZE = 0, 60
NEXT = np.random.default_rng(7).permutation(np.arange(10, SIZE))  # what follows each token in the task's outputs
CPU, FREE = StepCost.default("cpu"), StepCost.default("cuda")


def chains(n: int, seed: int, length: int = 14):
    """Outputs that follow a table of successors; the prompts say where they begin and hold other tokens besides."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        first, output = int(rng.integers(10, SIZE)), []
        while len(output) < length:
            output.append(first)
            first = int(NEXT[first - 10])
        rows.append(([5, 6, output[0], *rng.integers(10, SIZE, 6).tolist()], output))
    return rows


def copies(n: int, seed: int, length: int = 14):
    """Outputs that copy the prompt."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(10, SIZE, length).tolist() for _ in range(n)]
    return [([5, 6, *tokens], tokens) for tokens in made]


def noise(n: int, seed: int, length: int = 30):
    """Outputs that nothing predicts."""
    rng = np.random.default_rng(seed)
    return [([5, 6, 7], rng.integers(10, SIZE, length).tolist()) for _ in range(n)]


def split(rows):
    """Prompts and outputs with their end tokens."""
    prompts, outputs = zip(*rows, strict=True)
    return TokenCorpus.from_rows(prompts), TokenCorpus.from_rows([*output, EOS] for output in outputs)


@cache
def drafter(preset="best", kind=chains, **options):
    prompts, outputs = zip(*kind(200, 0), strict=True)
    return Drafter.build(
        TokenCorpus.from_rows(outputs),
        TokenCorpus.from_rows(prompts),
        eos_id=EOS,
        vocab_size=SIZE,
        options=Options(preset=preset, **options),
    )


@pytest.fixture(scope="module")
def copying():
    """A drafter of chains, tuned where outputs copy the prompt."""
    return tune(drafter(), *split(copies(250, 1)))


def test_weights_follow_the_rows(copying):
    assert copying.chosen["weights"] == "learnt"
    assert copying.saved_ms.low > 0
    # the drafter as it was adapts while it decodes, but has to see the first outputs for that
    assert copying.after.ms_per_output < 0.95 * copying.before.ms_per_output
    assert copying.after.result.tokens_per_pass > 1.1 * copying.before.result.tokens_per_pass
    assert verdict(copying)["helps"]
    assert "Drafts will help here" in verdict(copying)["text"]
    assert (copying.drafter.weights != drafter().weights).any()


def test_the_drafter_says_how_it_was_tuned(copying, tmp_path):
    tuned = copying.drafter.tuned
    speedup = copying.after.speedup
    assert tuned.speedup == (speedup.low, speedup.value, speedup.high)
    assert speedup.low < speedup.value < speedup.high
    assert (tuned.max_draft, tuned.rows) == (copying.chosen["max_draft"], copying.rows["held_out"])
    assert StepCost.from_json(tuned.cost).step_ms(5) == CPU.step_ms(5)
    copying.drafter.save(tmp_path / "task.tasc")
    same_drafters(Drafter.load(tmp_path / "task.tasc"), copying.drafter)


def test_what_is_good_stays():
    tuning = tune(drafter(), *split(chains(250, 1)), max_draft=15)
    assert tuning.chosen["max_draft"] <= 15
    assert tuning.after.ms_per_output <= 1.01 * tuning.before.ms_per_output
    assert verdict(tuning)["helps"]


def test_text_that_nothing_predicts_is_left_alone():
    tuning = tune(drafter(), *split(noise(200, 1)))
    found = verdict(tuning)
    assert (found["helps"], tuning.effect) == (False, "loses time")
    assert "lose time" in found["text"]
    assert "switch themselves off" in found["text"]
    assert tuning.after.result.tokens_per_pass < 1.1
    assert passes_by_hand(tuning.after) < 1.02 * tuning.after.plain_ms.sum()


def own_ms(found):
    """The measured time of the drafter: what the curve's milliseconds do not hold."""
    return found.drafted_ms.sum() - passes_by_hand(found)


def passes_by_hand(found):
    """Milliseconds of the passes of rows decoded one by one."""
    total = 0.0
    for row in found.result.requests:
        place = len(row.prompt_ids)
        fed = place
        for drafted, accepted in zip(row.drafted, row.accepted, strict=True):
            total += CPU.step_ms(fed + drafted, context=place)
            place, fed = place + accepted + 1, 1
    return total


def test_times_are_those_of_the_replay(copying):
    for found in (copying.before, copying.after):
        assert found.plain_ms.sum() == pytest.approx(found.result.plain_ms)
        assert found.drafted_ms.sum() == pytest.approx(found.result.drafted_ms)
        assert found.rows.sum() == len(found.result.requests)
        assert own_ms(found) > 0


@pytest.mark.parametrize("batch_size", [3, 8])
def test_rows_share_passes(batch_size):
    tuning = tune(drafter(), *split(chains(120, 3)), cost=FREE, batch_size=batch_size, max_draft=4)
    found = tuning.after
    assert found.plain_ms.sum() == pytest.approx(found.result.plain_ms)
    assert found.drafted_ms.sum() == pytest.approx(found.result.drafted_ms)
    n = tuning.rows["held_out"]
    assert found.rows.tolist() == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)


def test_held_out_rows_teach_nothing(copying):
    """Other held-out rows: the same choice, the same weights, the same figures of every candidate."""
    prompts, outputs = split(copies(250, 1))
    parts = Rows(prompts, outputs, (None,) * 250).parts()
    others = Rows(*split(chains(300, 9)), (None,) * 300).parts()["held_out"]
    mixed = parts["teach"].with_rows(others).with_rows(parts["choose"])
    found = tune(drafter(), mixed.prompts, mixed.outputs)
    np.testing.assert_array_equal(found.drafter.weights, copying.drafter.weights)
    assert (found.chosen, found.tried) == (copying.chosen, copying.tried)
    assert found.after.speedup != copying.after.speedup


def test_rows_that_choose_do_not_teach(copying):
    prompts, outputs = split(copies(250, 1))
    parts = Rows(prompts, outputs, (None,) * 250).parts()
    taught = parts["teach"]
    expected = drafter().taught(taught.prompts, taught.without_ends(EOS))
    np.testing.assert_array_equal(copying.drafter.weights, expected.weights)


ROWS = st.lists(st.integers(0, 5000), min_size=100, max_size=300)


@settings(max_examples=30)
@given(ROWS, st.randoms(use_true_random=False))
def test_equal_rows_lie_in_the_same_part(numbers, random):
    numbers = [*numbers, *range(100), *numbers]
    random.shuffle(numbers)
    rows = [([k % 50], [k // 50 + 1, 3]) for k in numbers]
    found = Rows(*split(rows), (None,) * len(rows)).parts()
    contents = {
        part: {(tuple(p), tuple(o)) for p, o in zip(some.prompts, some.outputs, strict=True)}
        for part, some in found.items()
    }
    assert sum(map(len, found.values())) == len(rows)
    assert sum(map(len, contents.values())) == len(set(numbers))
    for part, some in contents.items():  # a row's part does not depend on the others
        for rest in contents.keys() - {part}:
            assert not some & contents[rest]


def test_a_row_keeps_its_part_without_the_others():
    rows = copies(400, 2)
    whole = Rows(*split(rows), (None,) * 400).parts()
    half = Rows(*split(rows[:200]), (None,) * 200).parts()
    for part, some in half.items():
        kept = {tuple(p) for p in some.prompts}
        assert kept <= {tuple(p) for p in whole[part].prompts}
    shares = {part: len(some) / 400 for part, some in whole.items()}
    assert shares == pytest.approx({"held_out": 0.4, "choose": 0.2, "teach": 0.4}, abs=0.1)


def test_longest_draft_is_the_shortest_of_the_best():
    short = [([5, 6, k % 50 + 10, k // 50 + 10], [k % 50 + 10, 3]) for k in range(300)]
    tuning = tune(drafter(), *split(short), cost=FREE)
    ms = {one["max_draft"]: one["ms_per_output"] for one in tuning.tried if one["weights"] == tuning.chosen["weights"]}
    assert set(ms) == {n for n in LENGTHS if n <= 15}  # the curve was measured up to 16 tokens, one is fed anyway
    assert tuning.chosen["max_draft"] <= 4
    assert all(ms[n] > 1.005 * min(ms.values()) for n in ms if n < tuning.chosen["max_draft"])


def test_longest_draft_can_be_bounded_and_outgrow_the_default():
    rows = split(chains(150, 3, length=40))
    tuned = {most: tune(drafter(), *rows, cost=FREE, max_draft=most).chosen["max_draft"] for most in (1, 3, 30)}
    assert tuned[1] == 1
    assert tuned[3] == 3
    assert tuned[30] > 10


def test_tuning_again_begins_where_it_was(copying):
    again = tune(copying.drafter, *split(copies(250, 1)))
    assert again.before.max_draft == copying.chosen["max_draft"]
    assert again.before.result.requests == copying.after.result.requests


def test_paper_drafter_gets_other_options():
    paper = drafter("paper")
    tuning = tune(paper, *split(copies(200, 1)), max_draft=6)
    options = tuning.drafter.options
    assert {name: tuning.chosen[name] for name in ("lam", "n_max", "p_min")} == {
        "lam": options.lam, "n_max": options.n_max, "p_min": options.p_min,
    }  # fmt: skip
    assert options.lam < 0.5, "the prompt must count"
    assert options.preset == "paper"
    assert tuning.saved_ms.low > 0
    best = min(tuning.tried, key=lambda one: one["ms_per_output"])
    assert best["ms_per_output"] < tuning.tried[0]["ms_per_output"]
    assert (tuning.tried[0]["lam"], tuning.tried[0]["n_max"], tuning.tried[0]["p_min"]) == (0.75, 4, 5)


def test_outputs_cut_at_their_limit_teach_nothing():
    """Rows that the limit cut end anywhere; a drafter that learnt from them would draft end tokens."""
    rows = Rows(*split(copies(120, 1)), (None,) * 120)
    cut = TokenCorpus.from_rows(ids[:-1] if row % 2 else ids for row, ids in enumerate(rows.outputs))
    limits = [14 if row % 2 else 200 for row in range(120)]
    assert len(Rows(rows.prompts, cut, tuple(limits)).finished(EOS)) == 60
    tuning = tune(drafter(), rows.prompts, cut, limits=limits)
    finished = Rows(rows.prompts, cut, tuple(limits)).parts()["teach"].finished(EOS)
    assert tuning.chosen["weights"] == "learnt"
    expected = drafter().taught(finished.prompts, finished.without_ends(EOS))
    np.testing.assert_array_equal(tuning.drafter.weights, expected.weights)
    assert max(len(request.output_ids) for request in tuning.after.result.requests) == 15
    assert {request.limit for request in tuning.after.result.requests} == {14, 200}


def test_rows_of_the_drafter_are_no_validation_rows():
    known, new = split(chains(200, 0)), split(chains(200, 5, length=13))
    with pytest.raises(DataError, match="200 of 200 rows are rows that the drafter was built from"):
        tune(drafter(), *known)
    found = seen_rows(drafter(), new[0], TokenCorpus.from_rows(ids[:-1] for ids in new[1]))
    assert (found.compared, found.seen, found.by_prompt) == (200, 0, True)
    half = [*chains(150, 0), *copies(100, 5)]
    text = verdict(tune(drafter(), *split(half), max_draft=2))["text"]
    assert "150 of 250 rows look like rows that the drafter was built from" in text


def test_rows_of_a_drafter_without_prompts_are_told_by_their_outputs():
    paper = drafter("paper")
    text = verdict(tune(paper, *split(chains(200, 0)), max_draft=2))["text"]
    assert "200 of 200 outputs stand in the drafter word for word" in text
    assert seen_rows(drafter("best", min_rows=2), *split(chains(5, 0))).compared == 0


def test_few_rows_are_refused_with_the_number_needed():
    rows = copies(99, 1)
    for many in (rows, rows * 5):
        with pytest.raises(DataError, match="at least 100 distinct rows, got 99"):
            tune(drafter(), *split(many))
    rough = verdict(tune(drafter(), *split(copies(130, 1)), max_draft=2))["text"]
    assert "held-out rows: take the figures as rough" in rough


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"batch_size": 0}, OptionError, "batch_size must be at least 1, got 0"),
        ({"max_draft": 0}, OptionError, "max_draft must be from 1 to 1024, got 0"),
        ({"max_draft": 2000}, OptionError, "got 2000"),
        ({"limits": [5]}, DataError, "120 prompts, 120 outputs, 1 limits"),
    ],
)
def test_wrong_use_is_refused(options, error, reason):
    with pytest.raises(error, match=reason):
        tune(drafter(), *split(copies(120, 1)), **options)


def test_empty_outputs_are_refused():
    prompts, outputs = split(copies(120, 1))
    with pytest.raises(DataError, match="output 7 has no tokens"):
        tune(drafter(), prompts, TokenCorpus.from_rows([] if row == 7 else ids for row, ids in enumerate(outputs)))


def test_verdict_names_a_default_curve_and_the_batch_size():
    rows = split(noise(120, 1))
    text = verdict(tune(drafter(), *rows, batch_size=4, max_draft=2))["text"]
    assert "batch size 4" in text
    assert "try a smaller one (--batch-size)" in text
    assert "typical of cpu; 'tasc profile' measures yours" in text
    measured = StepCost(CPU.tokens, CPU.batch_sizes, CPU.contexts, CPU.ms, about={"device": "cpu"})
    assert "typical of cpu" not in verdict(tune(drafter(), *rows, cost=measured, max_draft=2))["text"]


def test_a_drafter_without_prompts_can_be_tuned():
    bare = Drafter.build(split(chains(60, 0))[1], eos_id=EOS, vocab_size=SIZE)
    tuning = tune(replace(bare, tuned=None), *split(copies(250, 1)), max_draft=15)
    assert tuning.chosen["weights"] == "learnt"
    assert tuning.saved_ms.value > 0
