"""Replay against decoding with a model, against a plain loop, and against the reference figures."""

import gzip
import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drafters import Bush, Script, random_drafter, wrong_at
from tasc.corpus import TokenCorpus, load_tokenizer
from tasc.decode import Drafting, generate
from tasc.draft import Drafter
from tasc.draft.adaptive import adaptive
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.index import Index
from tasc.draft.interface import SOURCES
from tasc.draft.paper import PaperDrafter
from tasc.draft.recorded import Recorded, append_log, read_log
from tasc.errors import DataError, OptionError
from tasc.replay import replay, replay_log
from tasc.replay.peers import PromptLookup
from tiny_models import tiny_model

ROWS, EOS = 96, 0
RNG = np.random.default_rng(3)
PROMPTS = [RNG.integers(12, ROWS, size).tolist() for size in (7, 1, 12, 3, 12, 5, 5, 9)]


@pytest.fixture(scope="module")
def llama():
    return tiny_model("llama", rows=ROWS, initializer_range=0.5)


@pytest.fixture(scope="module")
def plain(llama):
    """What the model writes without drafts, end token included."""
    done = generate(llama, PROMPTS, eos_id=[1, 2, 3], max_new_tokens=60, batch_size=1)
    return [ids if not ended else [*ids, 1] for ids, ended in zip(done.outputs, done.ended, strict=True)]


def drafters(plain):
    """From always right to always wrong, and one that learns from what it sees."""
    table = {tuple(prompt): output for prompt, output in zip(PROMPTS, plain, strict=True)}
    index = Index.build(TokenCorpus.from_rows([row[:-1] for row in plain]), start_id=ROWS, eos_id=1)
    return {
        "right": Script(table),
        "trees": Bush(table),
        "unsure": Script(table, wrong_at(lambda place: place % 5 == 2), probability=0.6),
        "wrong": random_drafter(0),
        "paper": PaperDrafter(index, p_min=1),
        "best": best_drafter(plain),
        "lookup": PromptLookup(eos_id=1),
    }


@cache
def _best(rows):
    prompts = TokenCorpus.from_rows(PROMPTS * 15)
    outputs = TokenCorpus.from_rows([row[:-1] for row in rows] * 15)
    return Drafter.build(outputs, prompts, eos_id=1, vocab_size=ROWS)


def best_drafter(plain):
    """Learnt from enough rows to have weights of its own."""
    return _best(tuple(tuple(row) for row in plain))


COSTS = {"cpu": StepCost.default("cpu"), "free": StepCost.default("cuda")}


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("cost", sorted(COSTS))
@pytest.mark.parametrize("name", ["right", "trees", "unsure", "wrong", "paper", "best", "lookup"])
@pytest.mark.parametrize("limit", [60, 17])
def test_passes_are_those_of_a_real_run(llama, plain, tmp_path, name, cost, batch_size, limit):
    drafter, log = drafters(plain)[name], tmp_path / "run.jsonl"
    options = {"max_draft": 6, "switch_off": cost == "cpu"}
    drafting = Drafting(drafter, cost=COSTS[cost], record=log, **options)
    stats = []
    for _ in range(2):  # the second call goes on with what the control learnt
        done = generate(llama, PROMPTS, eos_id=[1, 2, 3], max_new_tokens=limit, batch_size=batch_size, drafter=drafting)
        stats += done.requests or []
    recorded = read_log(log).requests
    if name == "wrong":  # the same draws again
        drafter = random_drafter(0)
    result = replay_log(adaptive(drafter), recorded, control=Control(COSTS[cost], **options))
    for replayed, request in zip(result.requests, recorded, strict=True):
        passes = [(one.drafted, one.depths, one.accepted) for one in (replayed, request)]
        assert passes[0] == passes[1]
        assert replayed.took_the_passes_of(request)
    if name == "trees":
        assert sum(map(sum, (one.depths for one in recorded))) < sum(map(sum, (one.drafted for one in recorded)))
    assert result.passes == sum(r.passes for r in recorded)
    assert result.tokens_per_pass == sum(len(r.output_ids) for r in recorded) / result.passes
    assert name in ("wrong", "lookup") or result.tokens_per_pass > 1
    for source in SOURCES:
        counted = np.sum([one.by_source.get(source, [0, 0]) for one in stats], axis=0).tolist()
        assert result.by_source.get(source, [0, 0]) == counted
    widest = max(len(one.by_position) for one in stats)
    counted = [
        [sum(one.by_position[k][j] for one in stats if k < len(one.by_position)) for j in (0, 1)] for k in range(widest)
    ]
    assert result.by_position == counted


def test_a_log_that_is_cut_short_replays_as_far_as_it_goes(plain, tmp_path):
    drafter = drafters(plain)["right"]
    whole = replay(drafter, PROMPTS, plain, before_prefill=True, limits=[60] * len(plain)).requests
    append_log(tmp_path / "run.jsonl", whole)
    text = (tmp_path / "run.jsonl").read_text()
    (tmp_path / "run.jsonl").write_text(text[:-40])
    found = read_log(tmp_path / "run.jsonl").requests
    assert replay_log(drafter, found).requests == whole[:-1]


TOKENS = st.integers(0, 3)
OUTPUTS = st.lists(st.lists(TOKENS, min_size=1, max_size=25), min_size=1, max_size=6)


def plain_loop(drafter, prompts, outputs, max_draft):
    """The reference protocol in a few lines: (passes, tokens, drafted)."""
    passes = tokens = drafted = 0
    for prompt, output in zip(prompts, outputs, strict=True):
        state = drafter.start(prompt)
        state.extend(output[:1])
        place = 1
        while place < len(output):
            draft = state.propose(min(max_draft, len(output) - place)).tokens.tolist()
            right = 0
            while right < len(draft) and output[place + right] == draft[right]:
                right += 1
            new = output[place : place + right + 1]
            state.extend(new)
            passes, tokens, drafted, place = passes + 1, tokens + len(new), drafted + len(draft), place + len(new)
    return passes, tokens, drafted


@settings(max_examples=100)
@given(OUTPUTS, st.data(), st.integers(1, 12))
def test_default_is_the_reference_protocol(outputs, data, max_draft):
    prompts = [data.draw(st.lists(TOKENS, max_size=8)) for _ in outputs]
    index = Index.build(TokenCorpus.from_rows(outputs), start_id=9, eos_id=EOS)
    for drafter in (PaperDrafter(index, p_min=1), PromptLookup(eos_id=EOS)):
        passes, tokens, drafted = plain_loop(drafter, prompts, outputs, max_draft)
        result = replay(
            drafter, TokenCorpus.from_rows(prompts), TokenCorpus.from_rows(outputs), max_draft=max_draft, batch_size=2
        )
        assert result.passes == passes
        assert [r.output_ids for r in result.requests] == [tuple(output) for output in outputs]
        assert sum(result.by_source.get("corpus", [0, 0])) + sum(result.by_source.get("prompt", [0, 0])) == sum(
            sum(r.drafted) + sum(r.accepted) for r in result.requests
        )
        assert sum(n for n, _ in result.by_position) == drafted
        assert sum(n for _, n in result.by_position) == sum(sum(r.accepted) for r in result.requests)
        if passes:
            assert (result.tokens_per_pass, result.drafted_per_pass) == (tokens / passes, drafted / passes)
        else:
            assert np.isnan(result.tokens_per_pass)


def test_a_draft_ends_where_all_of_it_gets_too_unlikely():
    drafter = Script({(5,): [1, 2, 3, 4, 5, 6]}, probability=0.5)
    cut = replay(drafter, [[5]], [[1, 2, 3, 4, 5, 6]], before_prefill=True, min_probability=0.25)
    assert cut.requests[0].drafted == (2, 2)
    none = replay(drafter, [[5]], [[1, 2, 3, 4, 5, 6]], before_prefill=True, min_probability=0.6)
    assert (none.tokens_per_pass, none.drafted_per_pass) == (1.0, 0.0)


def test_trees_are_replayed_where_that_is_asked_for():
    outputs = [list(range(20, 40))]
    drafter = Bush({(5,): outputs[0]})
    chains, trees = (replay(drafter, [[5]], outputs, max_draft=9, tree=tree) for tree in (False, True))
    assert [sum(sum(r.drafted) - sum(r.depths) for r in one.requests) > 0 for one in (chains, trees)] == [False, True]
    assert trees.requests[0].output_ids == tuple(outputs[0])
    assert all(depth <= 9 for depth in trees.requests[0].depths)
    wide = replay(drafter, [[5]], outputs, max_draft=9, tree=True, min_probability=0.8)
    assert max(wide.requests[0].drafted) == 2  # 0.9, 0.81


def test_predicted_speedup_is_that_of_the_curve():
    """Passes over 1 token take 10 ms, over 3 tokens 20 ms, and the prompt of 4 tokens 25 ms."""
    cost = StepCost((1, 3), (1,), (0,), [[[10.0, 20.0]]])
    output = [1, 2, 3, 4, 5, 6, 7]
    drafter = Script({(5, 6, 7, 8): output})
    result = replay(drafter, [[5, 6, 7, 8]], [output], max_draft=2, cost=cost)
    assert result.requests[0].drafted == (0, 2, 2)
    assert result.plain_ms == 25 + 6 * 10
    measured = (result.start_us + 2 * result.propose_us) / 1000
    assert result.drafted_ms == pytest.approx(25 + 2 * 20 + measured)
    assert result.predicted_speedup == result.plain_ms / result.drafted_ms


def test_rows_leave_their_batch_in_the_prediction_too():
    cost = StepCost((1,), (1, 2), (0,), [[[10.0]], [[14.0]]])
    nothing = Script({})
    result = replay(nothing, [[5], [6]], [[1], [1, 2, 3]], batch_size=2, cost=cost)
    assert result.plain_ms == 14 + 10 + 10
    assert result.tokens_per_pass == 1.0


def test_report_of_a_replay():
    report = replay(Script({(5,): [1, 2, 3]}), [[5]], [[1, 2, 3]], name="mine").to_json()
    json.dumps(report, allow_nan=False)
    assert (report["name"], report["tokens_per_pass"], report["drafted_per_pass"]) == ("mine", 2.0, 2.0)
    assert report["acceptance_by_position"] == [1.0, 1.0]
    assert {"propose_us", "predicted_speedup", "by_source"} <= report.keys()


def test_progress_counts_rows():
    seen = []
    replay(Script({}), [[5]] * 5, [[1]] * 5, batch_size=2, progress=seen.append)
    assert seen == [2, 2, 1]


def test_wrong_use_is_refused():
    drafter = Script({})
    for prompts, outputs, reason in (
        ([], [], "got none"),
        ([[5]], [], "1 prompts, 0 outputs"),
        ([[5]], [[]], "output 0"),
    ):
        with pytest.raises(DataError, match=reason):
            replay(drafter, prompts, outputs)
    for options in ({"max_draft": 0}, {"batch_size": 0}, {"min_probability": 2.0}):
        with pytest.raises(OptionError, match=next(iter(options))):
            replay(drafter, [[5]], [[1]], **options)
    with pytest.raises(DataError, match="got none"):
        replay_log(drafter, [])
    with pytest.raises(DataError, match="output 0 has no tokens"):
        replay_log(drafter, [Recorded((5,), (), (), ())])


END = 151645  # <|im_end|> of Qwen2.5
TABLE = {  # corpus: rows, tokens per pass of the paper's drafter by n_max; measured before this project by other code
    "massive_en": (400, {3: 2.96, 4: 3.00, 6: 3.04}),
    "snips": (400, {3: 2.95, 4: 3.11, 6: 3.15}),
    "eurlex57k_short": (400, {3: 2.54, 4: 2.93, 6: 3.03}),
    "ud_ewt_pos": (400, {3: 2.69, 4: 2.88, 6: 2.95}),
    "medquad": (150, {4: 1.87}),
}


@pytest.mark.slow
@pytest.mark.parametrize("corpus", TABLE)
def test_paper_drafter_gives_the_reference_figures(shared, corpus):
    tokenizer = load_tokenizer(shared / "tokenizers/qwen2.5")
    folder, (n_rows, figures) = shared / "data" / corpus, TABLE[corpus]
    test = read_rows(folder / "test.jsonl.gz")
    test = [test[k] for k in np.random.default_rng(0).permutation(len(test))[:n_rows]]
    prompts = [ids[:1500] for ids in TokenCorpus.encode((row["prompt"] for row in test), tokenizer)]
    outputs = [[*ids, END] for ids in TokenCorpus.encode((row["completion"] for row in test), tokenizer)]
    train = TokenCorpus.encode((row["completion"] for row in read_rows(folder / "train.jsonl.gz")), tokenizer)
    index = Index.build(train, start_id=len(tokenizer), eos_id=END)
    for n_max, expected in figures.items():
        found = replay(PaperDrafter(index, n_max=n_max), prompts, outputs).tokens_per_pass
        assert found == pytest.approx(expected, rel=0.02), n_max


def read_rows(path):
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]
