import json
import math
from contextlib import contextmanager

import numpy as np
import pytest

import tiny
from tasc.analysis import BUDGETS, analyze, predict_shortening
from tasc.corpus import Row, Tasks, TokenCorpus, load_tasks, load_tokenizer

DAYS = ("monday", "tuesday", "friday", "sunday")
PLACES = ("kitchen", "living room", "garden")


def alarm_tasks(n_rows=400):
    randomness = np.random.default_rng(0)
    rows = []
    for _ in range(n_rows):
        day, place = randomness.choice(DAYS), randomness.choice(PLACES)
        request = " ".join(randomness.permutation(["wake", "me", "on", day, "in", "the", place, "please", "now"]))
        rows.append(Row(request, f"intent: alarm_set, slot fills: {{date: {day}, place: {place}}}"))
    return Tasks(tuple(rows), "alarms")


def random_tasks(n_rows=200, length=60):
    randomness = np.random.default_rng(1)
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    texts = ["".join(randomness.choice(letters, length)) for _ in range(2 * n_rows)]
    return Tasks(tuple(Row(a, b) for a, b in zip(texts[::2], texts[1::2], strict=True)), "noise")


def yes_or_no(n_rows=300):
    randomness = np.random.default_rng(2)
    return Tasks(tuple(Row(f"is {i} even, is it odd?", randomness.choice(["a", "b"])) for i in range(n_rows)), "labels")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.byte_level_bpe()


def test_the_issue_s_json_keys_are_there_and_json_ready(tokenizer):
    report = analyze(alarm_tasks(), tokenizer).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False))
    for key in ("rows", "input", "output", "delta_entropy", "cdf80_ratio", "h2_nats", "recommendation"):
        assert key in report
    for side in ("input", "output"):
        for key in ("bigram_entropy_bits", "bigrams_cdf80", "tokens_mean"):
            assert isinstance(report[side][key], int | float)


def test_a_path_is_the_rows_in_it(tokenizer, tmp_path):
    for name, n in (("train", 100), ("validation", 30)):
        lines = [json.dumps({"prompt": row.prompt, "completion": row.completion}) for row in alarm_tasks(n)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    tasks, held_out = (load_tasks(tmp_path / f"{name}.jsonl") for name in ("train", "validation"))
    assert analyze(tmp_path / "train.jsonl", tokenizer, eval_tasks=tmp_path).to_dict() == (
        analyze(tasks, tokenizer, eval_tasks=held_out).to_dict()
    )


def test_low_variability_is_worth_fine_tuning(tokenizer):
    analysis = analyze(alarm_tasks(), tokenizer)
    assert analysis.recommendation.verdict == "tasc-ft"
    assert analysis.output.distinct == len(DAYS) * len(PLACES)
    assert analysis.output.bigram_entropy_bits < analysis.input.bigram_entropy_bits
    assert analysis.delta_entropy == pytest.approx(
        analysis.output.bigram_entropy_bits / analysis.input.bigram_entropy_bits - 1
    )
    assert analysis.cdf80_ratio == analysis.input.bigrams_cdf80 / analysis.output.bigrams_cdf80
    assert analysis.predicted_shortening[0].ratio > 5
    assert analysis.h2_nats == analysis.output.h2_nats


def test_random_characters_are_worth_nothing(tokenizer):
    analysis = analyze(random_tasks(), tokenizer)
    assert analysis.recommendation.verdict == "not-worth-it"
    # one word per text: no word bigrams on either side
    assert analysis.delta_entropy is None
    assert analysis.cdf80_ratio is None


def test_single_labels_have_nothing_to_gain(tokenizer):
    assert analyze(yes_or_no(), tokenizer).recommendation.verdict == "nothing-to-gain"


def test_numbers_of_a_case_counted_by_hand(tokenizer):
    tasks = Tasks((Row("a b a", "x y"), Row("a b", "x y"), Row("c", "x y z")), "hand")
    analysis = analyze(tasks, tokenizer, eval_tasks=tasks)
    # input bigrams: a-b twice, b-a once; outputs: x-y three times, y-z once
    assert analysis.input.bigram_entropy_bits == pytest.approx(math.log2(3) - 2 / 3)
    assert analysis.output.bigram_entropy_bits == pytest.approx(2 - 0.75 * math.log2(3))
    assert (analysis.input.bigrams_cdf80, analysis.output.bigrams_cdf80) == (2, 2)
    lengths = [len(tokenizer(text)["input_ids"]) for text in tasks.completions]
    assert analysis.output.tokens_mean == pytest.approx(sum(lengths) / 3)
    assert analysis.held_out.shared_with_train == 3
    assert analysis.output.token_ngrams[0].entropy_bits == pytest.approx(analysis.output.shannon_nats / math.log(2))
    assert analysis.output.normalised_entropy == pytest.approx(analysis.output.shannon_nats / math.log(len(tokenizer)))


def test_equal_rows_are_held_out_together(tokenizer):
    # every row is there twice; a row left in training would make its twin fully predictable
    noise = random_tasks(100)
    doubled = Tasks(noise.rows + noise.rows, "doubled")
    analysis = analyze(doubled, tokenizer)
    assert analysis.held_out.rows == 20
    assert analysis.drafting.tokens_per_pass < 1.5
    leaky = analyze(doubled, tokenizer, eval_tasks=noise[:10])
    assert leaky.drafting.tokens_per_pass > 5
    assert leaky.held_out.shared_with_train == 10


def test_the_same_rows_give_the_same_analysis(tokenizer):
    assert analyze(alarm_tasks(), tokenizer) == analyze(alarm_tasks(), tokenizer)
    one, other = (analyze(random_tasks(), tokenizer, seed=seed) for seed in (0, 1))
    assert one.predicted_shortening != other.predicted_shortening
    assert one.output == other.output


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_handful_of_rows_is_enough(tokenizer, rows):
    analysis = analyze(alarm_tasks(rows), tokenizer)
    assert analysis.rows == rows
    assert "held-out rows: take the figures as rough" in analysis.recommendation.text


def test_empty_prompts_and_chats(tokenizer):
    turns = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "hi you"})
    tasks = Tasks((Row("hi you", "hello there you", turns), Row("", "hello there me")), "mixed")
    analysis = analyze(tasks, tokenizer)
    # all turns count as input, with a line break between them
    assert analysis.input.tokens_quantiles["p100"] == len(tokenizer("be brief\nhi you")["input_ids"])
    assert analysis.input.tokens_quantiles["p0"] == 0


def test_a_tokenizer_may_be_named(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    assert analyze(alarm_tasks(50), tmp_path) == analyze(alarm_tasks(50), tokenizer)


def test_every_stage_shows_progress_to_its_end(tokenizer):
    stages = {}

    @contextmanager
    def progress(description, *, total=None, unit="rows"):
        stages[description] = [0, total]

        def advance(n):
            stages[description][0] += n

        yield advance

    analyze(alarm_tasks(30), tokenizer, eval_tasks=alarm_tasks(20), progress=progress)
    assert list(stages) == [
        "encoding outputs",
        "measuring outputs",
        "encoding inputs",
        "measuring inputs",
        "encoding eval outputs",
        "mining n-grams",
        "replaying a drafter",
    ]
    mined, _ = stages.pop("mining n-grams")
    assert mined > 0
    assert all(done == total for done, total in stages.values())


def test_shortening_by_hand(tokenizer):
    train = TokenCorpus.from_rows([[5, 6, 7]] * 4)
    held_out = TokenCorpus.from_rows([[5, 6, 7], [5, 6, 9]])
    one, two = predict_shortening(train, held_out, tokenizer, budgets=(1, 2))
    # the first merge is (5, 6, 7): reward 8 against 4 for its halves; the second row keeps its three tokens
    assert (one.added, one.tokens_per_output, one.ratio) == (1, 2.0, 1.5)
    assert one.steps_ratio == pytest.approx((6 + 2) / (4 + 2))
    assert one.rarest_count == 4
    assert (two.budget, two.added, two.ratio) == (2, 1, 1.5)


def test_no_ngram_contains_a_special_token(tokenizer):
    eos = tokenizer.eos_token_id
    rows = TokenCorpus.from_rows([[5, eos, 5, eos, 5, eos]] * 5)
    (found,) = predict_shortening(rows, rows, tokenizer, budgets=(10,))
    assert (found.added, found.ratio) == (0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("massive_en", "tasc-ft"),
        ("snips", "tasc-ft"),
        ("ud_ewt_pos", "tasc-ft"),
        ("eurlex57k_short", "tasc-ft"),
        ("medquad", "tasc-spec"),
        ("stories", "not-worth-it"),
    ],
)
def test_real_corpora(shared, name, verdict):
    """Verdicts, and the ratios of Algorithm 1 that were measured before this code was written, within 1%."""
    reference = {
        "massive_en": (3.39, 3.91, 4.62, 5.19),
        "snips": (2.93, 3.21, 3.57, 3.91),
        "eurlex57k_short": (1.54, 1.71, 2.01, 2.42),
        "ud_ewt_pos": (2.38, 2.53, 2.73, 2.93),
    }
    folder = shared / "data" / name
    tasks, test = load_tasks(folder), load_tasks(folder, split="test")
    # the inputs play no part in the verdict, and those of eurlex57k_short take a minute to encode
    tasks = Tasks(tuple(Row("", row.completion) for row in tasks), name)
    analysis = analyze(tasks, load_tokenizer(shared / "tokenizers" / "qwen2.5"), eval_tasks=test)
    assert analysis.recommendation.verdict == verdict
    if name in reference:
        assert [s.budget for s in analysis.predicted_shortening] == list(BUDGETS)
        assert [s.ratio for s in analysis.predicted_shortening] == pytest.approx(reference[name], rel=0.01)
