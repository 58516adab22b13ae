"""tasc.generate and tasc.decode.complete with drafts, their logs and statistics, comparisons, measured costs."""

import dataclasses
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from drafters import Script, random_drafter, wrong_at
from tasc.corpus import Row, fingerprint, load_tokenizer, make_template
from tasc.decode import check_drafter, compare, complete, end_ids, generate, speculative, timed_generate
from tasc.decode.drafting import Drafting, summary
from tasc.decode.forward import Forward
from tasc.decode.profile import IN_A_ROW, SETTLE, profile
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.recorded import read_log
from tasc.errors import DataError, FingerprintError, ModelError, OptionError
from tasc.vocab.tokenizer import write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import DEVICE, POSITIONS, tiny_model

ROWS = 96
END_IDS = frozenset(range(6))
RNG = np.random.default_rng(3)
PROMPTS = [RNG.integers(12, ROWS, size).tolist() for size in (1, 9, 3, 3, 17, 2, 9, 5, 12, 4, 7)]
FREE = StepCost.default("cuda")


def wide_model(architecture: str = "qwen2", **changes: Any) -> Any:
    """Logits far apart, so that rounding decides nothing."""
    return tiny_model(architecture, rows=changes.pop("rows", ROWS), initializer_range=0.5, **changes)


@pytest.fixture(scope="module")
def model() -> Any:
    return wide_model()


@pytest.fixture(scope="module")
def plain(model: Any) -> Any:
    return generate(model, PROMPTS, eos_id=END_IDS, max_new_tokens=20)


def right_drafts(plain: Any, change: Any = None) -> Script:
    return Script({tuple(prompt): [*ids, 1] for prompt, ids in zip(PROMPTS, plain.outputs, strict=True)}, change)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("places", [1, 3, 5])
def test_outputs_stay_and_passes_shrink(model, plain, batch_size, places):
    drafter = right_drafts(plain, wrong_at(lambda place: place % places == places - 1))
    got = generate(
        model, PROMPTS, eos_id=END_IDS, max_new_tokens=20, batch_size=batch_size,
        drafter=speculative(drafter, cost=FREE, switch_off=False),
    )  # fmt: skip
    assert got.outputs == plain.outputs
    assert got.ended == plain.ended
    produced = [len(ids) + ended for ids, ended in zip(plain.outputs, plain.ended, strict=True)]
    assert [request.tokens for request in got.requests] == produced
    assert [request.passes for request in got.requests] == got.passes
    # every `places`-th token is the target's own
    assert got.passes == [-(-n // places) for n in produced]
    assert sum(got.ms) <= 1000 * sum(got.seconds)
    assert plain.requests == []


def test_a_plain_drafter_will_do(model, plain):
    got = generate(model, PROMPTS, eos_id=END_IDS, max_new_tokens=20, drafter=right_drafts(plain))
    assert got.outputs == plain.outputs
    assert sum(got.passes) < sum(plain.passes) / 2


def test_rows_at_the_end_of_the_model_s_positions(model):
    prompts = [[20] * POSITIONS, [20] * (POSITIONS - 4), [20, 21]]
    expected = generate(model, prompts, eos_id=95, max_new_tokens=30, batch_size=3)
    drafting = speculative(random_drafter(1), cost=FREE, switch_off=False)
    got = generate(model, prompts, eos_id=95, max_new_tokens=30, batch_size=3, drafter=drafting)
    assert got.outputs == expected.outputs
    assert [len(ids) for ids in got.outputs[:2]] == [1, 5]


def test_sliding_windows_decode_plainly_and_refuse_drafts():
    model = wide_model("mistral", sliding_window=6)
    assert generate(model, PROMPTS[:2], eos_id=END_IDS, max_new_tokens=9).outputs
    with pytest.raises(ModelError, match="sliding window of 6 tokens"):
        generate(model, PROMPTS[:2], eos_id=END_IDS, max_new_tokens=9, drafter=random_drafter(0))


def test_logits_that_mean_nothing_stop_at_once():
    broken = wide_model("llama")
    with torch.no_grad():
        broken.model.embed_tokens.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        generate(broken, [[20]], eos_id=0, max_new_tokens=4, drafter=random_drafter(0))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_log_tells_how_to_replay_the_run(model, plain, tmp_path, batch_size):
    """The control, fed from the log alone, decides as it did: draft lengths of every pass of every row."""
    drafter = right_drafts(plain, wrong_at(lambda place: place % 4 == 2))
    cost = StepCost.default("cpu")
    drafting = speculative(drafter, cost=cost, record=tmp_path / "log.jsonl")
    got = generate(model, PROMPTS, eos_id=END_IDS, max_new_tokens=20, batch_size=batch_size, drafter=drafting)
    log = read_log(tmp_path / "log.jsonl")
    assert log.about["cost"] == cost.to_json()
    assert (log.about["max_draft"], log.about["tree"], log.about["fingerprint"]) == (15, True, "")
    order = sorted(range(len(PROMPTS)), key=lambda row: -len(PROMPTS[row]))
    assert [list(request.prompt_ids) for request in log.requests] == [PROMPTS[row] for row in order]
    assert [request.passes for request in log.requests] == [got.passes[row] for row in order]
    assert all(request.ms > 0 and request.limit == 20 for request in log.requests)
    control = Control(cost, max_draft=15)
    starts = [place for place, request in enumerate(log.requests) if request.slot == 0]
    assert starts == list(range(0, len(PROMPTS), batch_size))
    for start, end in zip(starts, [*starts[1:], len(PROMPTS)], strict=True):
        rows = [[request, 0, drafter.start(request.prompt_ids)] for request in log.requests[start:end]]
        fed, step = max(len(request.prompt_ids) for request, _, _ in rows), 0
        while rows:
            context = max(len(request.prompt_ids) + done for request, done, _ in rows)
            drafts = [
                state.propose(min(15, request.limit - done - 1)).probabilities if control.drafting else []
                for request, done, state in rows
            ]
            lengths = control.lengths(drafts, context=context, fed=fed)
            assert lengths == [request.drafted[step] for request, _, _ in rows]
            brought = []
            for row in rows:
                request, done, state = row
                n = min(request.accepted[step] + 1, len(request.output_ids) - done)
                state.extend(request.output_ids[done : done + n])
                row[1] += n
                brought.append(n)
            control.observe(brought)
            rows, fed, step = [row for row in rows if row[1] < len(row[0].output_ids)], 1, step + 1


def test_records_may_go_to_a_function(model, plain):
    batches: list[Any] = []
    drafting = speculative(right_drafts(plain), record=batches.append)
    generate(model, PROMPTS, eos_id=END_IDS, max_new_tokens=20, batch_size=4, drafter=drafting)
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert [request.slot for request in batches[0]] == [0, 1, 2, 3]


def test_a_summary_adds_requests_up(model, plain):
    drafter = right_drafts(plain, wrong_at(lambda place: place % 4 == 2))
    drafting = speculative(drafter, cost=FREE, switch_off=False)
    got = generate(model, PROMPTS, eos_id=END_IDS, max_new_tokens=20, batch_size=4, drafter=drafting)
    report = summary(got.requests)
    assert report["tokens_per_pass"] == sum(r.tokens for r in got.requests) / sum(got.passes)
    assert report["drafted_per_pass"] == sum(r.drafted for r in got.requests) / sum(got.passes)
    assert report["acceptance"] == sum(r.accepted for r in got.requests) / sum(r.drafted for r in got.requests)
    positions = report["acceptance_by_position"]
    assert len(positions) == 15
    assert all(a >= b for a, b in pairwise(positions))
    assert sum(counts["drafted"] for counts in report["by_source"].values()) == sum(r.drafted for r in got.requests)
    assert sum(counts["accepted"] for counts in report["by_source"].values()) == sum(r.accepted for r in got.requests)
    with pytest.raises(OptionError, match="at least one request"):
        summary([])


def test_repetitions_begin_anew_and_only_the_first_is_recorded(model, plain, tmp_path):
    drafting = speculative(right_drafts(plain, wrong_at(lambda _: True)), record=tmp_path / "log.jsonl")
    generated, timing = timed_generate(
        model, PROMPTS, repeats=3, batch_size=4, max_new_tokens=20, drafting=drafting, eos_id=END_IDS
    )
    assert len(timing.values) == 3
    assert len(read_log(tmp_path / "log.jsonl").requests) == len(PROMPTS)
    drafted = [request.drafted for request in generated.requests]
    again = generate(model, PROMPTS, batch_size=4, max_new_tokens=20, eos_id=END_IDS, drafter=drafting.fresh())
    assert [request.drafted for request in again.requests] == drafted


TASKS = [
    Row("wake me up at seven", "intent: alarm_set"),
    Row("lights off", "intent: lights_off, slot fills: {place: kitchen}"),
    Row("play the beatles please", "intent: play_music"),
    Row("hello", "intent: greet"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.byte_level_bpe()


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> EnrichedVocabulary:
    """N-grams of the prompts, and of ids that the random model likes to write."""
    words = [ids for row in TASKS for ids in (tokenizer(row.prompt).input_ids,)]
    pairs = {tuple(ids[k : k + 2]) for ids in words for k in range(len(ids) - 1)} | {(i, i + 1) for i in range(40, 60)}
    ngrams = tuple(Ngram(pair, pair) for pair in sorted(pairs))
    return EnrichedVocabulary(len(tokenizer), ngrams, fingerprint=fingerprint(tokenizer))


@pytest.fixture(scope="module")
def enriched(vocabulary: EnrichedVocabulary) -> Any:
    """A model that writes n-grams: their rows of the head are larger."""
    model = wide_model(rows=vocabulary.size)
    with torch.no_grad():
        model.lm_head.weight[vocabulary.base_size :] *= 1.5
    return model


def test_an_enriched_model_s_prompts_are_looked_up_in_merged_form(enriched, tokenizer, vocabulary):
    template = make_template(tokenizer)
    prompts = template.encode_prompts(TASKS)
    options = {"eos_id": end_ids(enriched, template), "max_new_tokens": 30, "vocabulary": vocabulary}
    expected = generate(enriched, prompts, **options)
    written = {i for ids in expected.outputs for i in ids}
    assert any(i >= vocabulary.base_size for i in written), "the outputs must hold n-grams"
    merged = [tuple(vocabulary.merge(prompt).tolist()) for prompt in prompts]
    assert all(len(short) < len(prompt) for short, prompt in zip(merged, prompts, strict=True))
    table = dict(zip(merged, expected.outputs, strict=True))
    drafter = Script(table, wrong_at(lambda place: place % 5 == 4, vocabulary.size), vocab_size=vocabulary.size)
    for batch_size in (1, 4):
        got = generate(enriched, prompts, batch_size=batch_size, drafter=drafter, **options)
        assert got.outputs == expected.outputs
        assert sum(got.passes) < sum(expected.passes) / 2
    assert set(drafter.prompts) == set(merged)
    prompt = torch.tensor([prompts[1]], device=DEVICE)
    greedy = dict(max_new_tokens=30, do_sample=False, eos_token_id=sorted(options["eos_id"]), pad_token_id=0)
    drafting = speculative(drafter, vocabulary=vocabulary, cost=FREE)
    drafted = enriched.generate(prompt, custom_generate=drafting, **greedy)
    assert drafted.tolist() == enriched.generate(prompt, **greedy).tolist()
    assert drafting.requests[0].accepted > 10
    # a second turn: the prompt holds what the model wrote
    enriched.generate(drafted, custom_generate=drafting, **greedy)
    assert drafter.prompts[-1] == tuple(vocabulary.merge(vocabulary.expand(drafted[0].cpu().numpy())).tolist())


def test_complete_with_drafts(enriched, tokenizer, vocabulary):
    options = {"vocabulary": vocabulary, "max_new_tokens": 12, "batch_size": 2}
    expected = complete(enriched, tokenizer, TASKS, **options)
    drafting = speculative(random_drafter(0, vocab_size=vocabulary.size), vocabulary=vocabulary)
    done = complete(enriched, tokenizer, TASKS, drafting=drafting, **options)
    assert done.texts == expected.texts
    assert done.tokens == expected.tokens
    assert done.speed()["drafts"]["tokens_per_pass"] >= 1
    assert "drafts" not in expected.speed()


def test_compare(enriched, tokenizer, vocabulary, tmp_path):
    template = make_template(tokenizer)
    prompts = template.encode_prompts(TASKS)
    expected = generate(enriched, prompts, eos_id=end_ids(enriched, template), max_new_tokens=12, vocabulary=vocabulary)
    table = {tuple(vocabulary.merge(p).tolist()): ids for p, ids in zip(prompts, expected.outputs, strict=True)}
    drafting = speculative(
        Script(table, vocab_size=vocabulary.size), vocabulary=vocabulary, record=tmp_path / "log.jsonl"
    )
    seen: list[int] = []
    done = compare(
        enriched, tokenizer, TASKS, drafting, batch_size=3, max_new_tokens=12, repeats=2, progress=seen.append
    )
    report = done.report()
    assert report["identical"] is True
    assert report["different_rows"] == []
    assert sum(seen) == 2 * 2 * len(TASKS)
    assert len(done.speedups.values) == 2
    low, high = report["speedup_range"]
    assert low <= report["speedup"] <= high
    assert report["passes_per_output"]["plain"] == np.mean(expected.passes)
    assert report["passes_per_output"]["speculative"] < report["passes_per_output"]["plain"]
    assert report["tokens_per_pass"] > 2
    assert report["acceptance_by_position"][0] == 1
    assert len(read_log(tmp_path / "log.jsonl").requests) == len(TASKS)


def test_compare_finds_rows_that_differ(enriched, tokenizer, monkeypatch):
    from tasc.decode import speculate

    monkeypatch.setattr(speculate, "kept", lambda draft, chosen: [*draft.tokens, chosen[-1]])  # believes every draft
    drafting = speculative(random_drafter(0, vocab_size=400), cost=FREE)
    report = compare(enriched, tokenizer, TASKS, drafting, batch_size=1, max_new_tokens=12, repeats=1).report()
    assert report["identical"] is False
    assert len(report["different_rows"]) == len(TASKS)


def test_drafters_of_other_tokenizers_are_refused(tokenizer, vocabulary):
    own = fingerprint(tokenizer)
    check_drafter(random_drafter(0, vocab_size=400), tokenizer)
    check_drafter(Script({}, fingerprint=own, vocab_size=len(tokenizer)), tokenizer)
    check_drafter(Script({}, fingerprint=own, vocab_size=vocabulary.size), tokenizer, vocabulary)
    with pytest.raises(FingerprintError, match=f"task.tasc was built with tokenizer other, the model has {own}"):
        check_drafter(Script({}, fingerprint="other"), tokenizer, source="task.tasc")
    with pytest.raises(FingerprintError, match="without the model's n-grams"):
        check_drafter(Script({}, fingerprint=own, vocab_size=len(tokenizer)), tokenizer, vocabulary)
    same: Any = Script({}, fingerprint=own, vocab_size=vocabulary.size)
    same.origin = SimpleNamespace(vocabulary="vocab", ngrams=vocabulary.digest)
    check_drafter(same, tokenizer, vocabulary)
    same.origin.ngrams = "0" * 16  # as many n-grams, other ones
    with pytest.raises(FingerprintError, match="other n-grams, of vocab"):
        check_drafter(same, tokenizer, vocabulary)


def test_a_drafter_built_with_the_enriched_tokenizer_is_refused(tokenizer, vocabulary, tmp_path):
    named = dataclasses.replace(vocabulary, fingerprint=fingerprint(tokenizer))
    write_tokenizer(tokenizer, named, tmp_path)
    enriched = load_tokenizer(tmp_path)
    drafter = Script({}, fingerprint=fingerprint(enriched), vocab_size=vocabulary.size)  # as many ids
    with pytest.raises(FingerprintError, match=f"the model has {named.fingerprint}"):
        check_drafter(drafter, enriched, named)


def test_a_drafter_of_n_grams_is_refused_for_a_model_without(tokenizer):
    drafter: Any = Script({}, fingerprint=fingerprint(tokenizer), vocab_size=len(tokenizer))
    drafter.origin = SimpleNamespace(vocabulary="vocab")
    with pytest.raises(FingerprintError, match="n-grams of vocab, the model has none"):
        check_drafter(drafter, tokenizer)


def test_options_are_checked_before_the_first_request(tmp_path):
    (tmp_path / "cost.json").write_text("{}")
    with pytest.raises(DataError, match="not a step-cost file"):
        Drafting(random_drafter(0), cost=tmp_path / "cost.json")
    with pytest.raises(OptionError, match="min_gain"):
        Drafting(random_drafter(0), min_gain=-1)


def test_profile_measures_every_size(model, tmp_path):
    seen: list[int] = []
    cost = profile(model, tokens=(1, 3), batch_sizes=(1, 2), contexts=(8, 32, 5000), repeats=2, progress=seen.append)
    assert cost.ms.shape == (2, 2, 2)
    assert cost.contexts == (8, 32), "5000 tokens do not fit"
    assert sum(seen) == 2 * 2 * 2 * 2
    assert (cost.ms > 0).all()
    assert cost.about["device"].startswith(DEVICE)
    cost.save(tmp_path / "cost.json")
    assert generate(
        model, [[20]], eos_id=1, max_new_tokens=3, drafter=Drafting(random_drafter(0), cost=tmp_path / "cost.json")
    )


def test_profile_times_each_size_among_its_like(model, monkeypatch):
    fed: list[int] = []
    step = Forward.step

    def noted(self, last, drafts):
        fed.append(1 + len(drafts[0].tokens))
        return step(self, last, drafts)

    monkeypatch.setattr(Forward, "step", noted)
    profile(model, tokens=(1, 4), batch_sizes=(1,), contexts=(8,), repeats=IN_A_ROW + 1)
    whole, rest = SETTLE + IN_A_ROW, SETTLE + 1
    assert fed == [1] * whole + [4] * whole + [1] * rest + [4] * rest


@pytest.mark.parametrize(
    "options", [{"repeats": 0}, {"tokens": (2, 4)}, {"batch_sizes": ()}, {"contexts": (127,)}, {"contexts": (8, 4)}]
)
def test_profile_refuses(model, options):
    with pytest.raises(OptionError):
        profile(model, **{"contexts": (8,), "repeats": 1} | options)


def test_profile_refuses_models_without_a_cache_to_roll_back():
    from transformers import AutoModelForCausalLM, MambaConfig

    mamba = AutoModelForCausalLM.from_config(MambaConfig(vocab_size=ROWS, hidden_size=16, num_hidden_layers=2))
    with pytest.raises(ModelError, match="recurrent state"):
        profile(mamba, contexts=(8,), repeats=1)


def test_a_drafter_and_the_n_grams_beside_it_must_belong_together(vocabulary):
    """Else hardly a draft would be accepted, and nobody told why."""
    plain, other = Script({}, vocab_size=vocabulary.base_size), Script({}, vocab_size=vocabulary.size)
    of_other: Any = other
    of_other.origin = SimpleNamespace(vocabulary="vocab", ngrams="0" * 16)
    with pytest.raises(FingerprintError, match="the drafter was built without the model's n-grams"):
        speculative(plain, vocabulary=vocabulary)
    with pytest.raises(FingerprintError, match="the drafter was built with other n-grams, of vocab"):
        speculative(of_other, vocabulary=vocabulary)
    with pytest.raises(OptionError, match="with the n-grams of a model; pass them, vocabulary="):
        speculative(of_other)
    of_other.origin.ngrams = vocabulary.digest
    speculative(of_other, vocabulary=vocabulary)
