"""From rows to an enriched folder: what is reported, what is written, what is refused, and the reference figures."""

import numpy as np
import pytest
from transformers import AutoTokenizer

import tiny
from tasc.corpus import Row, Tasks, TokenCorpus, load_tasks, load_tokenizer
from tasc.errors import DataError, OptionError, TokenizerError
from tasc.vocab import EnrichedVocabulary, enrich, mine_vocabulary, speller
from tasc.vocab.budget import BudgetPoint, cost_of, pick_budget

INTENTS = ("alarm_set", "play_music", "lights_off", "weather_query")


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        intent, hour = INTENTS[rng.integers(4)], int(rng.integers(1, 13))
        made.append(Row(f"request {k} of {seed}", f"intent: {intent}, slot fills: {{time: {hour} am}}"))
    return Tasks(tuple(made))


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.byte_level_bpe()


@pytest.mark.parametrize("method", ["paper", "best"])
@pytest.mark.parametrize("kind", sorted(tiny.TOKENIZERS))
def test_writes_a_tokenizer_that_decodes_what_was_merged(kind, method, tmp_path):
    base = tiny.TOKENIZERS[kind]()
    train, held_out = rows(200), rows(60, seed=1)
    report = enrich(train, base, budget=20, method=method, eval_tasks=held_out, out=tmp_path)
    assert report.prompt_drift == 0
    assert 0 < len(report.vocabulary) <= 20
    vocabulary, loaded = EnrichedVocabulary.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert [n.ids for n in vocabulary.ngrams] == [n.ids for n in report.vocabulary.ngrams]
    before = after = 0
    for text in held_out.completions:
        ids = base(text, add_special_tokens=False)["input_ids"]
        merged = vocabulary.merge(ids)
        assert loaded.decode(merged) == base.decode(ids)
        before, after = before + len(ids), after + merged.size
    assert (report.eval.tokens_before, report.eval.tokens_after) == (before, after)
    assert report.eval.ratio > 1.5


@pytest.mark.parametrize("method", ["paper", "best"])
def test_counts_of_ngrams_are_those_of_the_training_outputs(tokenizer, method):
    report = enrich(rows(300), tokenizer, budget=12, method=method)
    train = TokenCorpus.encode(rows(300).completions, tokenizer)
    first = report.vocabulary.ngrams[0]
    windows = sum(
        tuple(row[i : i + len(first.ids)]) == first.ids for row in train for i in range(len(row) - len(first.ids) + 1)
    )
    assert 0 < first.count <= windows
    assert first.text == tokenizer.decode(list(first.ids))
    assert report.train.tokens_before == train.n_tokens


def test_h2_is_that_of_the_tokens(tokenizer):
    report = enrich(rows(100), tokenizer, budget=5)
    train = TokenCorpus.encode(rows(100).completions, tokenizer)
    for corpus, found in ((train, report.h2_nats[0]), (report.vocabulary.merge_corpus(train), report.h2_nats[1])):
        share = np.unique(corpus.tokens, return_counts=True)[1] / corpus.n_tokens
        assert found == pytest.approx(-np.log((share**2).sum()))


def test_best_is_not_longer_than_the_paper_on_its_own_outputs(tokenizer):
    paper, best = (enrich(rows(400), tokenizer, budget=10, method=m).train.ratio for m in ("paper", "best"))
    assert best >= paper


def test_pcs_threshold_leaves_out_what_reaches_it(tokenizer):
    free = enrich(rows(200), tokenizer, budget=30, method="paper").vocabulary
    alpha = sorted(n.pcs for n in free.ngrams)[-3]
    strict = enrich(rows(200), tokenizer, budget=30, method="paper", pcs=alpha).vocabulary
    assert max(n.pcs for n in free.ngrams) >= alpha > max(n.pcs for n in strict.ngrams)


def test_no_two_ngrams_share_a_spelling_and_none_spells_a_base_token(tokenizer):
    vocabulary = enrich(rows(300), tokenizer, budget=60).vocabulary
    spell = speller(tokenizer).spell
    spelt = [spell(ids) for ids in vocabulary.expansions]
    assert len(set(spelt)) == len(spelt)
    assert not set(spelt) & set(tokenizer.get_vocab())


def test_automatic_budget_has_the_lowest_cost_but_for_the_tolerance(tokenizer):
    report = enrich(rows(400), tokenizer, eval_tasks=rows(100, seed=1))
    lowest = min(p.relative_cost for p in report.curve)
    (picked,) = [p for p in report.curve if p.budget == len(report.vocabulary)][:1]
    assert picked.relative_cost <= lowest * 1.01
    assert all(p.relative_cost > lowest * 1.01 for p in report.curve if p.budget < picked.budget)
    assert f"M={picked.budget}" in report.reason


def test_cost_of_no_ngrams_is_one_and_rare_ngrams_cost_more_than_frequent_ones(tokenizer):
    train = TokenCorpus.encode(rows(200).completions, tokenizer)
    held_out = TokenCorpus.encode(rows(50, seed=1).completions, tokenizer)
    distinct, counts = train.unique()
    empty = EnrichedVocabulary(speller(tokenizer).base_size, fingerprint=train.fingerprint)
    assert cost_of(empty, distinct, counts, held_out).relative_cost == 1.0
    vocabulary = enrich(rows(200), tokenizer, budget=10).vocabulary
    often, seldom = (cost_of(vocabulary, distinct, c, held_out) for c in (counts * 100, np.ones_like(counts)))
    assert often.steps_per_output == seldom.steps_per_output <= often.expected_steps < seldom.expected_steps
    assert often.relative_cost < 1


def test_smallest_budget_within_the_tolerance_is_picked():
    curve = [BudgetPoint(m, 1, 1, 1, cost) for m, cost in ((0, 1.0), (100, 0.504), (500, 0.5), (1000, 0.52))]
    pick, reason = pick_budget(curve)
    assert pick.budget == 100
    assert "M=100" in reason
    assert "M=500" in reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"budget": 0}, "at least 1"),
        ({"budget": 5, "method": "greedy"}, "'paper' or 'best'"),
        ({"budget": 5, "pcs": 0.0}, "PCS"),
        ({"budget": 5, "n_max": 1}, "n_max"),
    ],
)
def test_options_out_of_range_are_refused(tokenizer, options, reason):
    with pytest.raises(OptionError, match=reason):
        enrich(rows(5), tokenizer, **options)


def test_a_budget_needs_rows_to_be_chosen_by(tokenizer):
    with pytest.raises(DataError, match=r"too few rows to hold out 20 .*pass --eval, or a number"):
        enrich(rows(5), tokenizer)


def test_outputs_without_tokens_are_refused(tokenizer):
    with pytest.raises(DataError, match="no tokens"):
        enrich(Tasks((Row("a", ""),)), tokenizer, budget=5)


def test_nothing_stays_behind_when_writing_fails(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("tasc.vocab.tokenizer.prove", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        enrich(rows(50), tokenizer, budget=5, out=tmp_path / "out")
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("massive_en", {500: 4.62, 1000: 5.19}),
        ("snips", {500: 3.57, 1000: 3.91}),
        ("eurlex57k_short", {500: 2.01, 1000: 2.42}),
        ("ud_ewt_pos", {500: 2.73, 1000: 2.93}),
    ],
)
def test_paper_reproduces_the_reference_ratios(shared, corpus, expected):
    """Algorithm 1, Qwen2.5 tokens, n_max 4, PCS off: held-out tokens before over after."""
    base = load_tokenizer(shared / "tokenizers" / "qwen2.5")
    train, test = (
        TokenCorpus.encode(load_tasks(shared / "data" / corpus / f"{split}.jsonl.gz").completions, base)
        for split in ("train", "test")
    )
    spell = speller(base)
    for budget, ratio in expected.items():
        options = {"budget": budget, "n_max": 4, "method": "paper", "pcs": None}
        vocabulary, _, _ = mine_vocabulary(train, spell, options=options)
        assert test.n_tokens / vocabulary.merge_corpus(test).n_tokens == pytest.approx(ratio, rel=0.01)


def test_the_folder_of_a_model_is_left_alone(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(OptionError, match=f"{tmp_path} holds a model"):
        enrich(Tasks((Row("p", "intent: dim"),) * 8, "rows"), tiny.byte_level_bpe(), budget=2, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_an_enriched_tokenizer_is_not_enriched_again(tmp_path):
    tokenizer = tiny.byte_level_bpe()
    tasks = Tasks((Row("p", "intent: dim, slots: {}"),) * 8, "rows")
    enrich(tasks, tokenizer, budget=2, out=tmp_path)
    for given in (tmp_path, load_tokenizer(tmp_path)):
        with pytest.raises(TokenizerError, match=f"{tmp_path} holds n-grams already; pass its base tokenizer"):
            enrich(tasks, given, budget=2)
    assert len(enrich(tasks, tmp_path / "base_tokenizer", budget=2).vocabulary)
