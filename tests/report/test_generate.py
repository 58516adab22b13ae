"""Logs, outputs and n-grams of a user's own run, one by one and as a folder."""

import json
import shutil
from dataclasses import asdict, replace

import pytest

import tiny
from recorded_runs import ASKED, DRAFTER, LOG, OUTPUTS, TOKENIZER, TRAINING, build, record, write_run
from tasc.corpus import Tasks
from tasc.draft.recorded import Recorded, append_log, read_log
from tasc.draft.verify import Planned
from tasc.errors import DataError, FingerprintError, OptionError, TokenizerError, VocabularyError
from tasc.evals import Prediction, write_predictions
from tasc.replay.steps import Pass
from tasc.report import read_report, read_run, render, texts
from tasc.report._content import content_of
from tasc.vocab import EnrichedVocabulary, enrich


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_run(folder)
    return folder


@pytest.fixture
def place(made, tmp_path):
    """The files of a run, in a folder of the test's own."""
    for name in (LOG, DRAFTER, OUTPUTS):
        shutil.copy(made / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def enriched(tmp_path_factory):
    """vocab/, a drafter that speaks its n-grams, the log of a run in them, and the JSON of `tasc enrich`."""
    folder = tmp_path_factory.mktemp("enriched")
    TOKENIZER.save_pretrained(folder / "tok")
    tasks, held_out = Tasks(tuple(TRAINING), "train.jsonl"), Tasks(tuple(ASKED), "dev.jsonl")
    report = enrich(tasks, folder / "tok", budget=4, eval_tasks=held_out, out=folder / "vocab")
    document = report.to_json() | {"out": str(folder / "vocab")}
    (folder / "mined.json").write_text(json.dumps(document, indent=2))
    drafter = build(tokenizer=folder / "tok", vocabulary=report.vocabulary, vocabulary_folder=str(folder / "vocab"))
    drafter.save(folder / "mine.bin")
    record(drafter, folder / LOG, report.vocabulary)
    return folder


def written(walk):
    last = walk.steps[-1]
    return last.before + "".join(token.text for token in last.drafted if token.accepted) + (last.own or "")


def test_a_log_and_its_drafter_give_every_view_of_the_drafts(place):
    run = read_run(place / LOG, drafters=[place / DRAFTER])
    requests = read_log(place / LOG).requests
    assert (run.name, run.kind) == (LOG, "generate")
    assert run.systems[0].passes == tuple(request.passes for request in requests)
    assert run.systems[0].speeds[0].batch_size == 4
    assert run.systems[0].speeds[0].ms == pytest.approx(1.5 + 19 / 2)
    (drafts,) = run.drafts
    n_drafted, n_accepted, in_a_row = (
        sum(sum(getattr(one, key)) for one in requests) for key in ("drafted", "accepted", "depths")
    )
    for counts, n in ((drafts.by_position, in_a_row), (drafts.by_source, n_drafted)):
        assert sum(one.drafted for one in counts) == n
        assert sum(one.accepted for one in counts) == n_accepted
    assert {one.name for one in drafts.by_source} >= {"corpus", "prompt"}
    known = {row.prompt: row.completion for row in ASKED}
    assert len(run.walks) == texts.WALKS
    for walk in run.walks:
        assert written(walk) == known[walk.prompt] + str(TOKENIZER.eos_token)
        assert (len(walk.steps), walk.left_out) == (walk.n_passes, 0)
    assert f"{n_accepted / n_drafted:.0%} of the drafted tokens" in run.verdict[0]
    assert ("requests replayed", "20 of 20") in run.facts
    assert "--drafter FILE" not in " ".join(run.next_steps)


def test_of_a_tree_the_branch_that_stands_comes_first():
    ids = {word: TOKENIZER.encode(word)[0] for word in ("a", "b", "c", "d")}
    draft = Planned([ids["b"], ids["a"], ids["c"], ids["d"]], [-1, -1, 0, 1], bytes([0, 1, 0, 2]))
    request = Recorded((ids["a"],), (ids["a"], ids["d"], ids["b"]), (4,), (2,), depths=(2,))
    (walk,) = texts.walks_of("run", [request], [(Pass(draft, (1, 3), ids["b"]),)], TOKENIZER, None)
    (step,) = walk.steps
    assert [(token.text, token.source, token.accepted) for token in step.drafted] == [
        ("a", "neighbour", True),
        ("d", "prompt", True),
        ("b", "corpus", False),
        ("c", "corpus", False),
    ]
    assert step.own == "b"


def test_a_log_alone_gives_what_it_holds_and_says_what_is_missing(place):
    run = read_run(place / LOG)
    whole = read_run(place / LOG, drafters=[place / DRAFTER])
    assert run.drafts[0].by_position == whole.drafts[0].by_position
    assert run.drafts[0].by_source == run.walks == ()
    assert run.systems == whole.systems
    assert "tasc report LOG --drafter FILE" in run.next_steps[0]


def test_outputs_alone_give_their_passes(place):
    run = read_run(place / OUTPUTS)
    (system,) = run.systems
    assert sorted(system.passes) == sorted(request.passes for request in read_log(place / LOG).requests)
    assert (system.tokens_per_output, system.speeds, run.drafts, run.walks) == (9, (), (), ())
    assert run.verdict[0].startswith(f"{OUTPUTS}: 20 outputs, ")


def test_a_folder_is_one_run_of_the_files_that_belong_together(place):
    (place / "notes.md").write_text("# mine")
    (place / "config.json").write_text('{\n  "a": 1\n}')
    run = read_run(place)
    assert [system.name for system in run.systems] == [LOG]  # the outputs are those of the log
    assert run.walks == read_run(place / LOG, drafters=[place / DRAFTER]).walks
    assert ("drafter", f"{DRAFTER} (best)") in run.facts
    text = render(read_report([place]))
    for title in ("Passes and time", "How long outputs are", "Drafts: what was accepted", "Step by step"):
        assert f"<h2>{title}</h2>" in text
    assert "speed-up," not in text
    assert "over 20 outputs" in text


def test_outputs_of_another_run_are_a_system_of_their_own(place):
    rows = [Prediction(row.prompt, row.completion, row.completion, 9, 10, 3.0) for row in ASKED]
    write_predictions(place / "plain.jsonl", rows)
    run = read_run(place)
    assert [system.name for system in run.systems] == ["plain.jsonl", LOG]
    assert run.systems[0].passes_per_output == 10


def test_a_log_takes_the_drafter_that_makes_its_drafts(place):
    build(TRAINING[:5]).save(place / "a-smaller-one.bin")
    (place / "broken.bin").write_bytes(b"no drafter")
    run = read_run(place)
    assert ("drafter", f"{DRAFTER} (best)") in run.facts
    assert len(run.walks) == texts.WALKS


def test_a_drafter_that_makes_other_drafts_is_told(place):
    build(TRAINING[:5], preset="paper").save(place / "other.bin")
    run = read_run(place / LOG, drafters=[place / "other.bin"])
    assert run.walks == run.drafts[0].by_source == ()
    assert run.verdict[1].startswith(f"other.bin does not make the drafts of {LOG}, so sources and steps are not shown")


def test_requests_that_the_replay_takes_other_passes_for_are_told_and_left_out(place):
    requests = read_log(place / LOG).requests
    n = len(requests[0].output_ids)
    append_log(place / LOG, [replace(requests[0], drafted=(0,) * n, accepted=(0,) * n, depths=())])
    run = read_run(place)
    assert "Sources and steps are those of 20 of 21 requests" in run.verdict[1]
    assert sum(one.drafted for one in run.drafts[0].by_source) == sum(sum(one.drafted) for one in requests)
    assert len(run.walks) == texts.WALKS


def test_a_drafter_of_another_tokenizer_is_refused(place):
    drafter = build()
    replace(drafter, origin=replace(drafter.origin, fingerprint="another")).save(place / "other.bin")
    with pytest.raises(FingerprintError, match=rf"{LOG}: recorded with tokenizer sha256:\w+, the drafter has another"):
        read_run(place / LOG, drafters=[place / "other.bin"])
    (place / DRAFTER).unlink()
    assert read_run(place).walks == ()  # one that only lies there is passed over


def test_a_drafter_that_does_not_know_the_ids_is_refused(enriched, made):
    with pytest.raises(DataError, match=rf"{LOG}: holds ids that a drafter of \d+ ids does not know"):
        read_run(enriched / LOG, drafters=[made / DRAFTER])


def test_a_drafter_without_the_log_of_its_run_is_refused(place, tmp_path):
    with pytest.raises(DataError, match=f"{DRAFTER}: a drafter file shows nothing by itself"):
        read_run(place / DRAFTER)
    found = {"metric": "text", "n": 1, "quality": {"f": 0.5}, "intervals": {}}
    (tmp_path / "quality.json").write_text(json.dumps(found))
    with pytest.raises(OptionError, match="no run is of that kind; leave it out"):
        read_report([tmp_path / "quality.json"], drafters=[place / DRAFTER])


def test_a_tokenizer_that_is_gone_is_asked_for(place, made):
    shutil.copytree(made / "tok", place / "tok")
    build(tokenizer=place / "tok").save(place / DRAFTER)
    shutil.rmtree(place / "tok")
    with pytest.raises(TokenizerError, match=r"was built with a tokenizer that is not there: .*; pass --tokenizer"):
        read_run(place)
    assert len(read_run(place, tokenizer=made / "tok").walks) == texts.WALKS


def test_a_log_without_requests_is_refused(tmp_path):
    append_log(tmp_path / LOG, [], about={"fingerprint": "a"})
    with pytest.raises(DataError, match=f"{LOG}: no recorded request"):
        read_run(tmp_path)


def test_an_enriched_run_shows_its_ngrams_and_outputs_cut_into_them(enriched):
    run = read_run(enriched)
    assert (run.kind, run.n_ngrams, len(run.ngrams)) == ("generate", 4, 4)
    assert len(run.walks) == texts.WALKS
    known = {row.prompt: row.completion for row in ASKED}
    assert all(written(walk) == known[walk.prompt] + str(TOKENIZER.eos_token) for walk in run.walks)
    assert len(run.samples) == texts.SAMPLES
    for sample in run.samples:
        assert sample.output == sample.reference == known[sample.prompt]
        assert "".join(piece.text for piece in sample.after) == sample.output
    assert any(piece.is_ngram for sample in run.samples for piece in sample.after)
    assert any(line.startswith("Training outputs take ") for line in run.verdict)
    assert "<h2>What the outputs look like</h2>" in render(read_report([enriched]))


def test_the_samples_are_outputs_with_their_references_where_there_are_any(enriched, tmp_path):
    rows = [Prediction(row.prompt, row.completion, "something else") for row in ASKED]
    write_predictions(tmp_path / "answers.jsonl", rows)
    run = read_run(tmp_path / "answers.jsonl", vocabulary=enriched / "vocab")
    assert {sample.reference for sample in run.samples} == {"something else"}
    assert any(piece.is_ngram for sample in run.samples for piece in sample.after)
    tiny.byte_level_bpe(vocab_size=300).save_pretrained(tmp_path / "other")
    with pytest.raises(FingerprintError, match="pass its base tokenizer as --tokenizer"):
        read_run(tmp_path / "answers.jsonl", vocabulary=enriched / "vocab", tokenizer=tmp_path / "other")


def test_outputs_in_base_tokens_can_be_cut_into_ngrams(place, enriched):
    run = read_run(place / LOG, drafters=[place / DRAFTER], vocabulary=enriched / "vocab")
    assert any(piece.is_ngram for sample in run.samples for piece in sample.after)
    assert run.walks == read_run(place).walks


def test_what_enrich_printed_and_what_it_wrote(enriched):
    run = read_run(enriched / "mined.json")
    assert (run.kind, run.n_ngrams, run.budgets) == ("enrich", 4, None)
    assert [line.split(" take ")[0] for line in run.verdict] == ["Training outputs", "Held-out outputs"]
    assert read_run(enriched / "vocab").ngrams == run.ngrams


def test_the_curve_of_an_automatic_budget_is_shown(enriched, tmp_path):
    held_out = Tasks(tuple(ASKED), "dev.jsonl")
    report = enrich(Tasks(tuple(TRAINING), "train.jsonl"), enriched / "tok", eval_tasks=held_out, grid=(2, 4))
    (tmp_path / "mined.json").write_text(json.dumps(report.to_json() | {"out": None}))
    run = read_run(tmp_path)
    assert [point.budget for point in run.budgets.points] == [point["budget"] for point in map(asdict, report.curve)]
    assert (run.budgets.chosen, run.ngrams) == (len(report.vocabulary), ())
    assert "<h2>How many n-grams</h2>" in render(read_report([tmp_path]))


def test_ngrams_that_a_drafter_does_not_name_are_asked_for(enriched, tmp_path):
    vocabulary = EnrichedVocabulary.load(enriched / "vocab")
    drafter = build(tokenizer=enriched / "tok", vocabulary=vocabulary)
    drafter.save(tmp_path / "mine.bin")
    record(drafter, tmp_path / LOG, vocabulary)
    with pytest.raises(VocabularyError, match="speaks n-grams and does not say which; pass their folder as --vocab"):
        read_run(tmp_path)
    assert len(read_run(tmp_path, vocabulary=enriched / "vocab").walks) == texts.WALKS


def test_long_generations_are_shown_from_their_beginning(place, monkeypatch):
    whole = read_run(place).walks
    monkeypatch.setattr(texts, "MOST_STEPS", 2)
    for walk in read_run(place).walks:
        assert (len(walk.steps), walk.n_passes > 2) == (2, walk.left_out > 0)
    assert any(walk.n_passes > 2 for walk in whole)
    text = render(read_report([place]))
    assert ", the first 2 shown: " in text


@pytest.mark.parametrize(
    ("written", "content"),
    [
        (b"", "other"),
        (b"\x00\x01", "other"),
        (b'{"prompt": "a", "completion": "b"}\n', "json"),
        (b'{"prompt": "a", "completion": "b", "reference": 3}\n', "json"),
        (b'{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n', "other"),
        (b'{"prompt": "a", "completion": "b", "reference": "c"}\n', "outputs"),
        (b'{"format": "tasc-recorded", "version": 1}\n', "log"),
        (b'{\n  "a": 1\n}', "json"),
        (b"{" * 100_000, "json"),
    ],
)
def test_contents_are_told_apart(tmp_path, written, content):
    (tmp_path / "any").write_bytes(written)
    assert content_of(tmp_path / "any") == content


def test_a_drafter_file_is_told_by_its_content(place):
    assert [content_of(place / name) for name in (DRAFTER, LOG, OUTPUTS)] == ["drafter", "log", "outputs"]


def test_a_damaged_log_is_an_error_that_names_it(place):
    with (place / LOG).open("a") as file:
        file.write('{"prompt_ids": 3}\n')
    with pytest.raises(DataError, match=f"{LOG}: line 22 is no recorded request"):
        read_run(place)
