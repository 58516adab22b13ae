"""`tasc export` on the command line."""

import json

import pytest
from typer.testing import CliRunner

from ggufs import converter, enriched_run
from tasc.cli import main
from tasc.corpus import TokenCorpus, fingerprint
from tasc.draft import Drafter, Options, Origin
from tiny import byte_fallback_bpe, byte_level_bpe

TEXTS = ["intent: lights_off, place: kitchen"] * 4 + ["intent: play_music"] * 2


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: tok/ and task.tasc; a function that builds another task.tasc there."""
    tokenizer = byte_level_bpe()
    tokenizer.save_pretrained(tmp_path / "tok")
    monkeypatch.chdir(tmp_path)

    def build(*, rows=(), **origin: str) -> None:
        Drafter.build(
            TokenCorpus.from_rows([*TokenCorpus.encode(TEXTS, tokenizer), *rows]),
            eos_id=tokenizer.eos_token_id,
            vocab_size=len(tokenizer),
            options=Options(preset="paper"),
            origin=Origin(**({"fingerprint": fingerprint(tokenizer), "tokenizer": "tok"} | origin)),
        ).save("task.tasc")

    build()
    return build


def tasc_export(*words):
    return CliRunner().invoke(main.app, ["export", *words], env={"TASC_DEBUG": None, "COLUMNS": "60"})


def test_lookup_caches(place, tmp_path):
    result = tasc_export("llama-cpp-lookup", "task.tasc", "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "out" / "lookup.json").read_text())
    assert report["made_from"]["file"] == "task.tasc"
    for entry in report["files"].values():
        assert (tmp_path / "out" / entry["file"]).stat().st_size == entry["bytes"] > 0


def test_corpus(place, tmp_path):
    result = tasc_export("sglang-corpus", "task.tasc", "-o", "corpus.jsonl", "--budget", "3", "--repeats", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "corpus.jsonl.about.json").read_text())
    assert report["options"] == {"repeats": True, "draft_tokens": 12, "budget": 3}
    assert [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()] == TEXTS[::-1]


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (
            ("llama-cpp-lookup", "-o", "out"),
            "--spec-type ngram-cache -lcs out/lookup-static.bin -lcd out/lookup-dynamic.bin",
        ),
        (
            ("sglang-corpus", "-o", "corpus.jsonl"),
            "--speculative-algorithm NGRAM --speculative-num-draft-tokens 12 --speculative-ngram-match-type PROB "
            "--speculative-ngram-external-corpus-path corpus.jsonl --speculative-ngram-external-sam-budget 8",
        ),
    ],
)
def test_flags_stand_on_one_line_to_be_copied(place, words, flags):
    result = tasc_export(*words, "task.tasc")
    assert result.exit_code == 0, result.stderr
    assert f"flags: {flags}" in [line.rstrip() for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    "words", [("llama-cpp-lookup", "task.tasc", "-o", "out"), ("sglang-corpus", "task.tasc", "-o", "c.jsonl")]
)
def test_a_drafter_of_ngrams_is_refused_in_one_line(place, tmp_path, words):
    place(vocabulary="enriched")
    result = tasc_export(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the drafter speaks the n-grams of enriched")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / words[-1]).exists()


def test_the_enriched_model_has_the_ngrams(place, tmp_path):
    place(vocabulary="enriched")
    result = tasc_export("llama-cpp-lookup", "task.tasc", "-o", "out", "--enriched")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "lookup.json").is_file()


def test_lines_that_are_read_back_otherwise_are_told(place):
    letters = [byte_level_bpe().convert_tokens_to_ids(letter) for letter in "theta"]
    place(rows=[letters])
    result = tasc_export("sglang-corpus", "task.tasc", "-o", "corpus.jsonl")
    assert result.exit_code == 0, result.stderr
    assert "1 of 3 lines are read back as other ids" in result.stderr


def test_a_file_that_is_no_drafter(place, tmp_path):
    (tmp_path / "bad.tasc").write_bytes(b"no drafter")
    result = tasc_export("llama-cpp-lookup", "bad.tasc", "-o", "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: bad.tasc")


def test_a_gguf_that_would_leak_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    enriched_run(tmp_path / "run", byte_fallback_bpe(), n=3)
    result = tasc_export("gguf", "run", "-o", "model.gguf")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: llama.cpp encodes a SentencePiece vocabulary by merging")
    assert not (tmp_path / "model.gguf").exists()


def test_a_file_that_is_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.tasc").write_text("a drafter")
    (tmp_path / "rows.jsonl").write_text("rows")
    for words in (
        ("sglang-corpus", "task.tasc", "-o", "task.tasc"),
        ("gguf", "run", "-o", "rows.jsonl", "--check", "1", "--data", "rows.jsonl"),
    ):
        result = tasc_export(*words)
        assert result.exit_code == 2
        assert "is read, and would be" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("words", [("--check", "3"), ("--data", "rows.jsonl")])
def test_a_check_needs_rows_and_a_number(tmp_path, words):
    result = tasc_export("gguf", str(tmp_path), "-o", str(tmp_path / "model.gguf"), *words)
    assert result.exit_code == 2
    assert "belong together" in result.stderr


@pytest.mark.slow
def test_gguf(tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_CPP", str(converter()))
    pytest.importorskip("gguf", reason="needs the gguf library")
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")
    monkeypatch.chdir(tmp_path)
    enriched_run(tmp_path / "run", byte_level_bpe(), n=9)
    rows = [{"prompt": f"play song {n}", "completion": "intent: play_music"} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--outtype", "f32", "--pre", "gpt-2", "--check", "3", "--data", "rows.jsonl")
    result = tasc_export("gguf", "run", "-o", "model.gguf", *words, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "model.gguf.about.json").read_text())
    assert report["counts"]["check"]["prompts"] == 4
    assert report["counts"]["check"]["outputs"]["same"] == 3
    assert report["tokenizer"]["base_fingerprint"] == fingerprint(byte_level_bpe())
