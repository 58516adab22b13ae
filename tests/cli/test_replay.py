"""`tasc replay` on the command line."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tasc.cli import main
from tasc.corpus import TokenCorpus, fingerprint, load_tasks, make_template
from tasc.decode import speculative
from tasc.draft import Drafter, Options, Origin
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.recorded import Log, Recorded, append_log
from tasc.errors import DataError
from tasc.replay import replay
from tasc.replay.origin import options_of
from tasc.replay.rivals import RIVALS, make_rival
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny import byte_level_bpe
from tiny_models import make_tasks


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: tok/, test.jsonl and task.tasc; a function that builds another task.tasc there."""
    tokenizer = byte_level_bpe()
    tokenizer.save_pretrained(tmp_path / "tok")
    write_rows(tmp_path / "test.jsonl", make_tasks(12, seed=1))
    monkeypatch.chdir(tmp_path)

    def build(*, merged: EnrichedVocabulary | None = None, **origin: str) -> Drafter:
        outputs = TokenCorpus.encode(make_tasks(60).completions, tokenizer)
        size = len(tokenizer)
        if merged is not None:
            outputs, size = merged.merge_corpus(outputs), merged.size
        names = {"fingerprint": fingerprint(tokenizer), "tokenizer": "tok", "template": "none"} | origin
        Drafter.build(
            outputs,
            eos_id=tokenizer.eos_token_id,
            vocab_size=size,
            options=Options(preset="paper"),
            origin=Origin(**names),
        ).save("task.tasc")
        return Drafter.load("task.tasc")

    build()
    return build


def write_rows(path, tasks):
    path.write_text("".join(json.dumps({"prompt": r.prompt, "completion": r.completion}) + "\n" for r in tasks))


def tasc_replay(*words):
    return CliRunner().invoke(main.app, ["replay", "--drafter", "task.tasc", *words], env={"TASC_DEBUG": None})


def report_of(*words):
    result = tasc_replay(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def rows_of(drafter, template="none"):
    """Prompts and outputs as the command should see them."""
    tokenizer, tasks = byte_level_bpe(), load_tasks("test.jsonl")
    prompts = TokenCorpus.encode(tasks.prompts, tokenizer)
    if template != "none":
        prompts = make_template(tokenizer, template).encode_prompts(tasks.rows)
    outputs = TokenCorpus.encode(tasks.completions, tokenizer)
    return list(prompts), [[*ids.tolist(), drafter.eos_id] for ids in outputs]


def test_figures_are_those_of_the_replay(place):
    drafter = place()
    report = report_of("--data", "test.jsonl", "--max-draft", "7")
    prompts, outputs = rows_of(drafter)
    expected = replay(drafter, prompts, outputs, max_draft=7)
    (found,) = report["results"]
    assert (found["name"], report["rows"], report["skipped_rows"]) == ("task.tasc", 12, 0)
    assert found["tokens_per_pass"] == expected.tokens_per_pass > 2
    assert found["drafted_per_pass"] == expected.drafted_per_pass
    control = Control(StepCost.default("cpu"), max_draft=7)
    decoded = replay(drafter, prompts, outputs, control=control, before_prefill=True)
    assert found["decoding"]["tokens_per_pass"] == decoded.tokens_per_pass
    assert found["predicted_speedup"] == pytest.approx(decoded.predicted_speedup, rel=0.5)  # holds measured times
    assert found["propose_us"] > 0


def test_an_untuned_drafter_is_predicted_with_the_drafts_of_decoding(place):
    drafter = place()
    report = report_of("--data", "test.jsonl")
    (found,) = report["results"]
    assert report["max_draft"] == 10
    assert found["decoding"]["max_draft"] == speculative(drafter).max_draft == 15
    prompts, outputs = rows_of(drafter)
    decoded = replay(
        drafter, prompts, outputs, control=Control(StepCost.default("cpu"), max_draft=15), before_prefill=True
    )
    assert found["decoding"]["drafted_per_pass"] == decoded.drafted_per_pass
    assert found["tokens_per_pass"] == replay(drafter, prompts, outputs, max_draft=10).tokens_per_pass


def test_rivals_stand_in_the_order_in_which_they_were_named(place):
    report = report_of("--data", "test.jsonl", "--against", "prompt-lookup,paper", "--against", " corpus,paper")
    assert [r["name"] for r in report["results"]] == ["task.tasc", "prompt-lookup", "paper", "corpus"]
    figures = {r["name"]: r["tokens_per_pass"] for r in report["results"]}
    assert figures["paper"] == figures["task.tasc"] > figures["prompt-lookup"]


def test_every_rival_drafts(place):
    drafter = place()
    prompts, outputs = rows_of(drafter)
    for name in RIVALS:
        if name.startswith("suffix"):
            pytest.importorskip("arctic_inference")
        assert replay(make_rival(name, drafter.index), prompts, outputs).tokens_per_pass > 1, name


def test_templates_are_those_of_the_drafter(place):
    drafter = place(template="plain")
    prompts, outputs = rows_of(drafter, "plain")
    assert prompts[0] != list(rows_of(drafter)[0][0])
    found = report_of("--data", "test.jsonl")["results"][0]
    assert found["tokens_per_pass"] == replay(drafter, prompts, outputs).tokens_per_pass


def test_rows_of_a_drafter_with_ngrams_are_merged(place):
    tokenizer = byte_level_bpe()
    ngram = tuple(tokenizer("intent: dim", add_special_tokens=False)["input_ids"])
    vocabulary = EnrichedVocabulary(len(tokenizer), (Ngram(ngram, ngram),), fingerprint=fingerprint(tokenizer))
    vocabulary.save("ngrams")
    drafter = place(merged=vocabulary, vocabulary="ngrams")
    prompts, outputs = rows_of(drafter)
    merged = [[*vocabulary.merge(ids[:-1]).tolist(), ids[-1]] for ids in outputs]
    assert merged != outputs
    found = report_of("--data", "test.jsonl")["results"][0]
    assert found["tokens_per_pass"] == replay(drafter, prompts, merged).tokens_per_pass

    place(merged=vocabulary, ngrams=vocabulary.digest)  # built from Python, which named no folder
    refused = tasc_replay("--data", "test.jsonl")
    assert (refused.exit_code, "pass their folder as --vocab" in refused.stderr) == (1, True)
    place(merged=vocabulary, vocabulary="gone")
    refused = tasc_replay("--data", "test.jsonl")
    assert (refused.exit_code, "pass --vocab" in refused.stderr) == (1, True)
    assert tasc_replay("--data", "test.jsonl", "--vocab", "ngrams").exit_code == 0


def test_a_log_gives_the_passes_of_its_run(place, tmp_path):
    drafter = place()
    prompts, outputs = rows_of(drafter)
    options = {"max_draft": 5, "min_gain": 0.0, "switch_off": True}
    curve = StepCost((1, 2, 4), (1,), (0,), [[[10.0, 11.0, 12.0]]])
    run = replay(
        drafter,
        prompts,
        outputs,
        control=Control(curve, **options),
        before_prefill=True,
        limits=[40] * 12,
        batch_size=5,
    )
    about = {"fingerprint": drafter.fingerprint, **options, "cost": curve.to_json()}
    append_log(tmp_path / "run.jsonl", run.requests, about=about)
    report = report_of("--log", "run.jsonl", "--against", "corpus")
    ours, corpus_only = report["results"]
    assert (ours["same_passes"], ours["tokens_per_pass"]) == (True, run.tokens_per_pass)
    assert report["recorded"]["tokens_per_pass"] == run.tokens_per_pass
    assert corpus_only["same_passes"] is False
    assert report["max_draft"] == 5
    shorter = report_of("--log", "run.jsonl", "--max-draft", "1")["results"][0]
    assert (shorter["same_passes"], shorter["tokens_per_pass"] <= 2) == (False, True)

    append_log(tmp_path / "empty.jsonl", [Recorded((5,), (), (), (), 40)], about=about)  # a request that got no token
    assert "no recorded request" in tasc_replay("--log", "empty.jsonl").stderr
    append_log(tmp_path / "empty.jsonl", run.requests, about=about)
    assert report_of("--log", "empty.jsonl")["recorded"] == report["recorded"]

    append_log(tmp_path / "other.jsonl", run.requests, about={"fingerprint": "sha256:other"})
    refused = tasc_replay("--log", "other.jsonl")
    assert (refused.exit_code, "recorded with tokenizer sha256:other" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"max_draft": 2_000_000_000}, "max_draft cannot be 2000000000"),
        ({"max_draft": 0}, "max_draft cannot be 0"),
        ({"max_draft": "abc"}, "max_draft cannot be 'abc'"),
        ({"max_draft": None}, "max_draft cannot be None"),
        ({"max_draft": 1.5}, "max_draft cannot be 1.5"),
        ({"min_gain": [1]}, r"min_gain cannot be \[1\]"),
        ({"min_gain": float("inf")}, "min_gain cannot be inf"),
        ({"min_gain": 10**400}, "min_gain cannot be 10"),
        ({"min_gain": -1}, "min_gain cannot be -1"),
        ({"switch_off": 1}, "switch_off cannot be 1"),
    ],
)
def test_a_log_of_impossible_options_is_refused(about, says):
    with pytest.raises(DataError, match=f"run.jsonl: {says}.*; record the run again"):
        options_of(Log({"max_draft": 5, **about}), Path("run.jsonl"))


def test_people_get_a_table(place):
    result = tasc_replay("--data", "test.jsonl", "--against", "corpus", "--limit", "3", "--cost", write_cost())
    assert result.exit_code == 0, result.stderr
    assert "3 outputs, drafts of at most 10 tokens" in result.stdout
    lines = result.stdout.splitlines()
    ours, rival = (next(line for line in lines if name in line) for name in ("task.tasc", "corpus"))
    assert "1.00" in ours
    assert lines.index(ours) < lines.index(rival)


def write_cost():
    StepCost.default("cuda").save("cost.json")
    return "cost.json"


def test_another_tokenizer_is_refused(place):
    byte_level_bpe(vocab_size=300).save_pretrained("other")
    result = tasc_replay("--data", "test.jsonl", "--tokenizer", "other")
    assert result.exit_code == 1
    assert "was built with tokenizer sha256:" in result.stderr


def test_a_tokenizer_that_moved_is_asked_for(place):
    place(tokenizer="gone")
    result = tasc_replay("--data", "test.jsonl")
    assert result.exit_code == 1
    assert "gone" in result.stderr
    assert "pass --tokenizer" in result.stderr
    assert tasc_replay("--data", "test.jsonl", "--tokenizer", "tok").exit_code == 0


def test_missing_arctic_inference_says_how_to_get_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "arctic_inference.suffix_decoding", None)
    result = tasc_replay("--data", "test.jsonl", "--against", "suffix")
    assert result.exit_code == 1
    assert "pip install" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ([], 2, "pass --data"),
        (["--data", "test.jsonl", "--log", "run.jsonl"], 2, "pass --data"),
        (["--data", "test.jsonl", "--against", "eagle"], 1, "no rival 'eagle'"),
        (["--data", "gone.jsonl"], 1, "gone.jsonl"),
        (["--log", "gone.jsonl"], 1, "gone.jsonl"),
        (["--log", "gone.jsonl", "--batch-size", "4"], 2, "pass --min-probability, --tree"),
    ],
)
def test_wrong_use_ends_in_one_line(place, words, code, reason):
    result = tasc_replay(*words)
    assert (result.exit_code, reason in result.stderr) == (code, True), result.stderr
