"""`tasc draft` on files: what is built, shown, merged and updated, and how errors look."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from built import same_drafters
from tasc.cli import main
from tasc.corpus import Tasks, fingerprint, load_tasks
from tasc.draft import Drafter, build_drafter
from tasc.draft.recorded import Recorded, append_log
from tasc.errors import FingerprintError
from tasc.vocab.tokenizer import write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny import byte_fallback_bpe, byte_level_bpe
from tiny_models import make_tasks


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The working folder: tok/, a tokenizer; train.jsonl, 150 rows; and its halves."""
    byte_level_bpe().save_pretrained(tmp_path / "tok")
    monkeypatch.chdir(tmp_path)
    tasks = make_tasks(150)
    write_rows("train.jsonl", tasks)
    write_rows("first.jsonl", tasks[:70])
    write_rows("second.jsonl", tasks[70:])
    return tmp_path


def write_rows(path, tasks: Tasks):
    with open(path, "w") as file:
        file.writelines(json.dumps({"prompt": r.prompt, "completion": r.completion}) + "\n" for r in tasks)


def draft(*words):
    return CliRunner().invoke(main.app, ["draft", *words], env={"TASC_DEBUG": None, "COLUMNS": "120"})


def report_of(*words):
    result = draft(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def build(data, out, *words):
    return report_of("build", data, "--tokenizer", "tok", "-o", out, *words)


def fails(*words, code=1):
    """The one line that says why."""
    result = draft(*words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    if code == 1:
        assert line.startswith("error: ")
    return line


def test_a_built_file_is_that_of_the_library():
    report = build("train.jsonl", "task.tasc")
    expected = build_drafter("train.jsonl", "tok")
    same_drafters(Drafter.load("task.tasc"), expected)
    assert (report["rows"], report["skipped_rows"]) == (150, 0)
    assert report["tokens"] == expected.index.outputs().n_tokens + 150
    assert report["bytes_per_token"] == report["bytes"] / report["tokens"]
    assert report["origin"] == {
        "fingerprint": expected.fingerprint,
        "tokenizer": "tok",
        "template": "plain",
        "vocabulary": "",
        "ngrams": "",
    }
    assert report["options"] == {"preset": "best", "min_rows": 1, "n_max": 4, "p_min": 5, "lam": 0.75}
    assert report["reliability"]["error"] == expected.reliability.error
    assert report["seconds"] > 0
    shown = report_of("info", "task.tasc")
    assert shown == {key: report[key] for key in shown}


def test_options_reach_the_drafter():
    build(
        "train.jsonl", "task.tasc", "--preset", "paper", "--nmax", "3", "--p-min", "2", "--lam", "0.5", "--limit", "60"
    )
    drafter = Drafter.load("task.tasc")
    same_drafters(
        drafter, build_drafter(load_tasks("train.jsonl", limit=60), "tok", preset="paper", n_max=3, p_min=2, lam=0.5)
    )
    assert build("train.jsonl", "task.tasc", "--min-rows", "3", "--template", "none")["options"]["min_rows"] == 3
    same_drafters(
        Drafter.load("task.tasc"), build_drafter(load_tasks("train.jsonl"), "tok", min_rows=3, template="none")
    )


def test_bad_rows_are_counted(place):
    with open("train.jsonl", "a") as file:
        file.write('{"prompt": "p"}\n')
    assert "train.jsonl" in fails("build", "train.jsonl", "--tokenizer", "tok", "-o", "task.tasc")
    assert not (place / "task.tasc").exists()
    assert build("train.jsonl", "task.tasc", "--skip-bad")["skipped_rows"] == 1


def test_people_see_the_table_of_reliability():
    build("train.jsonl", "task.tasc")
    shown = draft("info", "task.tasc").stdout
    for words in (
        "rows",
        "150",
        "per token",
        "best",
        "sha256:",
        "predicted",
        "observed",
        "acceptance on held-out rows",
    ):
        assert words in shown
    assert (
        "acceptance"
        not in draft("build", "first.jsonl", "--tokenizer", "tok", "-o", "x.tasc", "--preset", "paper").stdout
    )


def test_progress_has_rates():
    log = draft("build", "train.jsonl", "--tokenizer", "tok", "-o", "task.tasc").stderr
    for words in (
        "encoding outputs: 150/150 rows",
        "encoding prompts: 150/150 rows",
        "indexing the outputs: 150/150",
        "rows/s",
    ):
        assert words in log


def test_merged_halves_are_the_whole():
    for name in ("first", "second", "train"):
        build(f"{name}.jsonl", f"{name}.tasc")
    report = report_of("merge", "first.tasc", "second.tasc", "-o", "merged.tasc")
    assert report["rows"] == 150
    same_drafters(Drafter.load("merged.tasc"), Drafter.load("train.tasc"))


def test_an_update_with_rows_is_a_build_from_all(place):
    build("first.jsonl", "task.tasc")
    build("train.jsonl", "whole.tasc")
    before = (place / "task.tasc").read_bytes()
    assert report_of("update", "task.tasc", "--data", "second.jsonl", "-o", "more.tasc")["added_rows"] == 80
    assert (place / "task.tasc").read_bytes() == before
    same_drafters(Drafter.load("more.tasc"), Drafter.load("whole.tasc"))
    report_of("update", "task.tasc", "--data", "second.jsonl")  # in place
    same_drafters(Drafter.load("task.tasc"), Drafter.load("whole.tasc"))


def test_an_update_from_a_log_takes_finished_requests():
    build("first.jsonl", "task.tasc")
    drafter, tokenizer = Drafter.load("task.tasc"), byte_level_bpe()
    ids = [tokenizer.encode(row.completion, add_special_tokens=False) for row in load_tasks("second.jsonl")]
    prompts = [tokenizer.encode(row.prompt + "\n", add_special_tokens=False) for row in load_tasks("second.jsonl")]
    requests = [_recorded(prompt, [*output, drafter.eos_id]) for prompt, output in zip(prompts, ids, strict=True)]
    cut = _recorded(prompts[0], ids[0][:4], limit=4)
    append_log("run.jsonl", [*requests, cut], about={"fingerprint": drafter.fingerprint})
    report = report_of("update", "task.tasc", "--log", "run.jsonl", "-o", "more.tasc")
    assert (report["added_rows"], report["unfinished_rows"], report["rows"]) == (80, 1, 150)
    build("train.jsonl", "whole.tasc")
    same_drafters(Drafter.load("more.tasc"), Drafter.load("whole.tasc"))

    append_log("other.jsonl", requests, about={"fingerprint": "sha256:other"})
    assert "sha256:other" in fails("update", "task.tasc", "--log", "other.jsonl")
    append_log("cut.jsonl", [cut])
    assert "no finished request" in fails("update", "task.tasc", "--log", "cut.jsonl")


def _recorded(prompt, output, limit=None):
    return Recorded(tuple(prompt), tuple(output), (0,) * len(output), (0,) * len(output), limit=limit)


def test_an_update_names_its_source_once():
    build("first.jsonl", "task.tasc")
    fails("update", "task.tasc", code=2)
    fails("update", "task.tasc", "--data", "second.jsonl", "--log", "run.jsonl", code=2)


def test_a_tokenizer_that_is_gone_can_be_named(place):
    build("first.jsonl", "task.tasc")
    (place / "tok").rename(place / "moved")
    assert "tok" in fails("update", "task.tasc", "--data", "second.jsonl")
    assert report_of("update", "task.tasc", "--data", "second.jsonl", "--tokenizer", "moved")["rows"] == 150
    byte_fallback_bpe().save_pretrained(place / "wrong")
    assert "sha256" in fails("update", "task.tasc", "--data", "second.jsonl", "--tokenizer", "wrong")


def test_ngrams_are_those_of_the_folder(place):
    tokenizer = byte_level_bpe()
    ids = tuple(tokenizer("intent: dim", add_special_tokens=False)["input_ids"])
    vocabulary = EnrichedVocabulary(len(tokenizer), (Ngram(ids, ids),), fingerprint=fingerprint(tokenizer))
    vocabulary.save(place / "ngrams")
    report = build("train.jsonl", "task.tasc", "--vocab", "ngrams")
    assert (report["vocab_size"], report["origin"]["vocabulary"]) == (vocabulary.size, "ngrams")
    drafter = Drafter.load("task.tasc")
    assert np.isin(vocabulary.base_size, drafter.index.tokens)
    build("first.jsonl", "first.tasc", "--vocab", "ngrams")
    report_of("update", "first.tasc", "--data", "second.jsonl")
    same_drafters(Drafter.load("first.tasc"), drafter)
    byte_fallback_bpe().save_pretrained(place / "wrong")
    said = fails("build", "train.jsonl", "--tokenizer", "wrong", "--vocab", "ngrams", "-o", "x.tasc")
    assert "pass the base tokenizer" in said
    fails("build", "train.jsonl", "--tokenizer", "tok", "--vocab", "nowhere", "-o", "x.tasc")


def test_the_tokenizer_of_a_model_with_ngrams_brings_them_along(place):
    tokenizer = byte_level_bpe()
    ids = tuple(tokenizer("intent: dim", add_special_tokens=False)["input_ids"])
    vocabulary = EnrichedVocabulary(len(tokenizer), (Ngram(ids, ids),), fingerprint=fingerprint(tokenizer))
    write_tokenizer(tokenizer, vocabulary, place / "run")
    built = report_of("build", "train.jsonl", "--tokenizer", "run", "-o", "task.tasc")
    assert built["origin"]["vocabulary"] == "run"
    report_of("build", "train.jsonl", "--tokenizer", "run/base_tokenizer", "--vocab", "run", "-o", "named.tasc")
    same_drafters(Drafter.load("task.tasc"), Drafter.load("named.tasc"))
    result = CliRunner().invoke(
        main.app, ["replay", "--drafter", "task.tasc", "--data", "train.jsonl", "--tokenizer", "run", "--json"]
    )
    assert result.exit_code == 0, result.output
    with pytest.raises(FingerprintError, match=r"run holds n-grams and none were given.*run/base_tokenizer"):
        build_drafter(load_tasks("train.jsonl"), "run")
    with pytest.raises(FingerprintError, match=r"^the n-grams were made for .*run/base_tokenizer"):
        build_drafter(load_tasks("train.jsonl"), "run", vocabulary=vocabulary)


def test_a_log_of_other_ngrams_or_none_is_not_mixed_in(place):
    build("first.jsonl", "first.tasc")
    made = Drafter.load(place / "first.tasc")
    request = _recorded([1, 2], [3, made.eos_id])
    append_log(place / "enriched.jsonl", [request], about={"fingerprint": made.fingerprint, "ngrams": "d1"})
    append_log(place / "base.jsonl", [request], about={"fingerprint": made.fingerprint, "ngrams": ""})
    append_log(place / "older.jsonl", [request], about={"fingerprint": made.fingerprint})
    said = fails("update", "first.tasc", "--log", "enriched.jsonl", "-o", "new.tasc")
    assert "recorded with n-grams d1, the drafter has none" in said
    for log in ("base.jsonl", "older.jsonl"):
        assert report_of("update", "first.tasc", "--log", log, "-o", "new.tasc")["added_rows"] == 1


def test_another_tokenizer_is_refused_before_the_work(place):
    build("first.jsonl", "first.tasc")
    byte_fallback_bpe().save_pretrained(place / "another")
    made = Drafter.load(place / "first.tasc").fingerprint
    said = fails("update", "first.tasc", "--data", "second.jsonl", "--tokenizer", "another")
    assert f"drafter built for tokenizer {made}, used with" in said


def test_what_cannot_be_written_is_refused_before_the_work(place):
    (place / "folder").mkdir()
    said = fails("build", "gone.jsonl", "--tokenizer", "tok", "-o", "folder", code=2)
    assert "folder is a folder; pass the file to write" in said
    said = fails("build", "gone.jsonl", "--tokenizer", "tok", "-o", "first.jsonl/x.tasc", code=2)
    assert "first.jsonl is a file; pass a folder" in said


def test_other_ngrams_are_not_mixed_in(place):
    tokenizer = byte_level_bpe()
    made = []
    for text in ("intent: dim", "intent: open"):
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        made.append(EnrichedVocabulary(len(tokenizer), (Ngram(ids, ids),), fingerprint=fingerprint(tokenizer)))
    made[0].save(place / "ngrams")
    build("first.jsonl", "first.tasc", "--vocab", "ngrams")
    made[0].save(place / "elsewhere")  # the same ones
    build("second.jsonl", "second.tasc", "--vocab", "elsewhere")
    assert report_of("merge", "first.tasc", "second.tasc", "-o", "both.tasc")["rows"] == 150
    made[1].save(place / "ngrams")  # mined again into the same folder
    assert "other n-grams" in fails("update", "first.tasc", "--data", "second.jsonl")
    build("second.jsonl", "other.tasc", "--vocab", "ngrams")
    assert "n-grams" in fails("merge", "first.tasc", "other.tasc", "-o", "mixed.tasc")
    result = CliRunner().invoke(main.app, ["replay", "--drafter", "first.tasc", "--data", "train.jsonl"])
    assert (result.exit_code, "speaks other n-grams than ngrams holds" in result.output) == (1, True)


def test_a_file_that_is_read_is_not_written(place):
    before = (place / "train.jsonl").read_bytes()
    said = fails("build", "train.jsonl", "--tokenizer", "tok", "-o", str(place / "train.jsonl"), code=2)
    assert "is read, and would be replaced" in said
    build("first.jsonl", "task.tasc")
    fails("update", "task.tasc", "--data", "train.jsonl", "-o", "train.jsonl", code=2)
    shard = (place / "task.tasc").read_bytes()
    assert "is read, and would be replaced" in fails("merge", "task.tasc", "task.tasc", "-o", "task.tasc", code=2)
    assert (place / "task.tasc").read_bytes() == shard
    assert (place / "train.jsonl").read_bytes() == before


def test_replay_reads_what_was_built():
    build("train.jsonl", "task.tasc")
    result = CliRunner().invoke(main.app, ["replay", "--drafter", "task.tasc", "--data", "train.jsonl", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["results"][0]["tokens_per_pass"] > 3


def test_verify_says_one_line(place):
    build("first.jsonl", "task.tasc")
    result = draft("verify", "task.tasc")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith("task.tasc: sound, 70 rows")
    whole = (place / "task.tasc").read_bytes()
    for name, content in (
        ("short", whole[:-9]),
        ("flipped", whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 4]) + whole[len(whole) // 2 + 1 :]),
        ("foreign", b"PK" + whole[2:]),
        ("empty", b""),
    ):
        (place / name).write_bytes(content)
        for verb in ("verify", "info"):
            assert name in fails(verb, name)
    fails("verify", "nowhere.tasc")


def test_what_does_not_belong_together_is_refused(place):
    build("first.jsonl", "best.tasc")
    build("second.jsonl", "paper.tasc", "--preset", "paper")
    assert "preset 'best' and 'paper'" in fails("merge", "best.tasc", "paper.tasc", "-o", "merged.tasc")
    assert not (place / "merged.tasc").exists()
    assert "preset" in fails("build", "train.jsonl", "--tokenizer", "tok", "-o", "x.tasc", "--preset", "worst")
    fails("build", "train.jsonl", "--tokenizer", "tok", "-o", "x.tasc", "--min-rows", "0", code=2)
