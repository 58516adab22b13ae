"""A whole run in this process: what it writes, what it refuses, what its options do."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasc.corpus import Row, Tasks, load_tokenizer, make_template
from tasc.errors import DataError, FingerprintError, MissingExtraError, ModelError, OptionError, TokenizerError
from tasc.files import read_json, write_json
from tasc.train import TrainReport, finetune
from tasc.train.loading import identity_of
from tasc.train.surgery import embedding_and_head
from tasc.vocab import EnrichedVocabulary
from tasc.vocab.tokenizer import base_of, write_tokenizer
from tiny_models import POSITIONS, make_tasks, tiny_model

BASE = 258
CHAT = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
SMALL = dict(effective_batch=8, batch_size=4, max_steps=3, lr=1e-2)


@pytest.fixture
def base_folder(tmp_path, tokenizer):
    folder = tmp_path / "base"
    tiny_model("qwen3", rows=BASE + 2, tied=True).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("at", [0, 5_000_000, 20_000_000, 39_999_999])
def test_a_base_model_is_told_from_another_by_all_of_its_weights(tmp_path, at):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(40_000_000))
    before = identity_of(tmp_path)
    assert identity_of(tmp_path) == before
    with weights.open("r+b") as file:  # a tensor of 40 KB; a sample lies in every 20 KB
        file.seek(max(at - 40_000, 0))
        file.write(b"\1" * 40_000)
    assert weights.stat().st_size == 40_000_000
    assert identity_of(tmp_path) != before


@pytest.mark.parametrize("size", [1, 4096, 4097, 10_000, 100_000])
def test_of_a_small_weight_file_every_byte_counts(tmp_path, size):
    weights = tmp_path / "model.safetensors"
    content = np.zeros(size, np.uint8)
    digests = set()
    for at in {0, size // 3, size // 2, size - 1}:
        content[:] = 0
        content[at] = 1
        weights.write_bytes(content.tobytes())
        digests.add(identity_of(tmp_path)["model_digest"])
    assert len(digests) == len({0, size // 3, size // 2, size - 1})


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_paths_are_the_rows_in_them(base_folder, tasks, eval_tasks, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, rows in (("train", tasks), ("validation", eval_tasks)):
        lines = [json.dumps({"prompt": row.prompt, "completion": row.completion}) for row in rows]
        (data / f"{name}.jsonl").write_text("\n".join(lines))
    finetune(base_folder, str(data), out=tmp_path / "paths", eval_tasks=data, **SMALL)
    finetune(base_folder, tasks, out=tmp_path / "rows", eval_tasks=eval_tasks, **SMALL)
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("paths", "rows")]
    assert weights[0] == weights[1]
    losses = [[line.get("eval_loss") for line in lines_of(tmp_path / run)] for run in ("paths", "rows")]
    assert losses[0] == losses[1]
    assert any(losses[0])


def test_a_run_folder_is_a_checkpoint_that_stock_transformers_load(
    base_folder, tasks, eval_tasks, vocabulary, tmp_path
):
    out = tmp_path / "run"
    report = finetune(base_folder, tasks, out=out, eval_tasks=eval_tasks, vocabulary=vocabulary, **SMALL)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    embedding, head = embedding_and_head(model)
    assert model.config.vocab_size == embedding.weight.shape[0] == vocabulary.size
    assert embedding.weight is head.weight
    assert model.config.use_cache is True
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.decode([BASE + 4]) == "intent: dim, slots: {"
    assert EnrichedVocabulary.load(out).ngrams == vocabulary.ngrams
    assert not (out / "checkpoints").exists()
    assert oct((out / "model.safetensors").stat().st_mode & 0o777) == oct((out / "config.json").stat().st_mode & 0o777)
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["options"]["lr"] == 1e-2
    assert TrainReport.from_json(run["report"]) == report
    assert (report.steps, report.rows, report.eval_rows, report.resumed_from) == (3, 48, 10, 0)
    assert (report.rows_report.spare_used, report.rows_report.added) == (2, 5)
    assert report.tokens_per_output < report.base_tokens_per_output


def test_a_run_that_is_started_twice_is_refused_the_second_time(base_folder, tasks, tmp_path):
    refused = []

    def again(record):
        with pytest.raises(OptionError, match="another run is at work in"):
            finetune(base_folder, tasks, out=tmp_path / "run", **SMALL)
        refused.append(record["step"])

    report = finetune(base_folder, tasks, out=tmp_path / "run", on_record=again, **SMALL)
    assert (refused, report.steps) == ([1, 2, 3], 3)
    assert finetune(base_folder, tasks, out=tmp_path / "run", **SMALL) == report


def test_a_loss_that_is_not_finite_ends_the_run(base_folder, tasks, tmp_path):
    with pytest.raises(ModelError, match=r"loss is not finite at step .*; train with a lower learning rate, now 1e.30"):
        finetune(base_folder, tasks, out=tmp_path / "run", **SMALL | {"lr": 1e30})


def test_prompts_by_another_template_are_another_run(base_folder, tasks, tmp_path):
    (tmp_path / "a.jinja").write_text("{{ messages[0]['content'] }}")
    options = SMALL | {"template": str(tmp_path / "a.jinja")}
    report = finetune(base_folder, tasks, out=tmp_path / "run", **options)
    assert finetune(base_folder, tasks, out=tmp_path / "run", **options) == report
    (tmp_path / "a.jinja").write_text("> {{ messages[0]['content'] }}")
    with pytest.raises(OptionError):
        finetune(base_folder, tasks, out=tmp_path / "run", **options)


def test_metrics_have_loss_rate_speed_and_an_evaluation_in_three_units(
    base_folder, tasks, eval_tasks, vocabulary, tmp_path
):
    heard = []
    run = tmp_path / "run"
    finetune(base_folder, tasks, out=run, eval_tasks=eval_tasks, vocabulary=vocabulary, on_record=heard.append, **SMALL)
    lines = lines_of(run)
    assert [line | {"steps": 3} for line in lines] == heard
    steps, evals = [x for x in lines if "loss" in x], [x for x in lines if "eval_loss" in x]
    assert [x["step"] for x in steps] == [x["step"] for x in evals] == [1, 2, 3]
    assert steps[2]["epoch"] == 0.5
    assert [x["lr"] for x in steps] == pytest.approx([1e-2, 1e-2 * 2 / 3, 1e-2 / 3])
    assert all(x["tokens_per_s"] > 0 for x in steps)
    n_bytes = sum(len(t.encode()) for t in eval_tasks.completions)
    nats = evals[0]["eval_nats_per_byte"] * n_bytes
    assert evals[0]["eval_nats_per_base_token"] * (n_bytes + len(eval_tasks)) == pytest.approx(
        nats
    )  # a base token is a byte
    assert evals[0]["eval_loss"] > 2 * evals[0]["eval_nats_per_base_token"]


def test_the_evaluation_is_the_mean_over_all_target_tokens(
    base_folder, tasks, eval_tasks, vocabulary, tokenizer, tmp_path
):
    out = tmp_path / "run"
    report = finetune(base_folder, tasks, out=out, eval_tasks=eval_tasks, vocabulary=vocabulary, **SMALL)
    model = AutoModelForCausalLM.from_pretrained(out)
    nats, n = 0.0, 0
    for row in eval_tasks:
        prompt = tokenizer(row.prompt + "\n", add_special_tokens=False)["input_ids"]
        target = [*vocabulary.merge(tokenizer(row.completion, add_special_tokens=False)["input_ids"]).tolist(), 1]
        with torch.no_grad():
            scores = model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        nats -= float(scores[range(len(target)), target].sum())
        n += len(target)
    assert report.eval_loss == pytest.approx(nats / n, rel=1e-5)


def test_training_learns_the_task(base_folder, vocabulary, tmp_path):
    tasks = make_tasks(64)
    options = SMALL | dict(max_steps=25, method="full")
    report = finetune(base_folder, tasks, out=tmp_path / "run", eval_tasks=tasks, vocabulary=vocabulary, **options)
    losses = [line["loss"] for line in lines_of(tmp_path / "run") if "loss" in line]
    assert report.eval_loss < 0.6 * losses[0]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_new_rows_alone_leave_the_base_rows_of_the_checkpoint_bit_equal(
    base_folder, tasks, vocabulary, tmp_path, method
):
    out = tmp_path / "run"
    finetune(base_folder, tasks, out=out, vocabulary=vocabulary, method=method, train_rows="new", **SMALL)
    before = embedding_and_head(AutoModelForCausalLM.from_pretrained(base_folder))[0].weight
    after = embedding_and_head(AutoModelForCausalLM.from_pretrained(out))[0].weight
    torch.testing.assert_close(after[:BASE], before[:BASE], rtol=0, atol=0)


def test_merge_dropout_trains_on_base_pieces_too(base_folder, tasks, vocabulary, tmp_path):
    runs = [
        finetune(base_folder, tasks, out=tmp_path / name, vocabulary=vocabulary, merge_dropout=p, **SMALL)
        for name, p in (("with", 0.5), ("again", 0.5), ("without", 0.0))
    ]
    assert runs[0].loss == runs[1].loss
    assert runs[0].loss != runs[2].loss


def test_without_a_vocabulary_the_model_keeps_its_rows_and_tokenizer(base_folder, tasks, tmp_path):
    out = tmp_path / "run"
    report = finetune(base_folder, tasks, out=out, train_rows="none", **SMALL)
    assert report.rows_report is None
    assert AutoModelForCausalLM.from_pretrained(out).config.vocab_size == BASE + 2
    assert len(AutoTokenizer.from_pretrained(out)) == BASE
    assert not (out / "enriched.json").exists()


def test_a_bfloat16_checkpoint_gives_a_bfloat16_checkpoint(base_folder, tasks, vocabulary, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
    model.save_pretrained(base_folder)
    finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=vocabulary, precision="bf16", **SMALL)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run").dtype == torch.bfloat16


def test_gradient_checkpointing_changes_no_result(base_folder, tasks, vocabulary, tmp_path):
    losses = [
        finetune(
            base_folder, tasks, out=tmp_path / str(i), vocabulary=vocabulary, gradient_checkpointing=bool(i), **SMALL
        ).loss
        for i in range(2)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_one_optimizer_step_is_the_effective_batch_however_it_is_cut(base_folder, tasks, vocabulary, tmp_path):
    options = SMALL | dict(effective_batch=len(tasks), max_steps=2, lora_dropout=0.0)
    for size in (16, 4):
        out = tmp_path / str(size)
        finetune(base_folder, tasks, out=out, vocabulary=vocabulary, **options | dict(batch_size=size))
    losses = [[line["loss"] for line in lines_of(tmp_path / str(size))] for size in (16, 4)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != losses[0][1]


def test_a_finished_run_is_not_trained_again_and_overwrite_trains_it_again(base_folder, tasks, vocabulary, tmp_path):
    heard = []
    call = dict(out=tmp_path / "run", vocabulary=vocabulary, on_record=heard.append, **SMALL)
    first = finetune(base_folder, tasks, **call)
    n = len(heard)
    assert finetune(base_folder, tasks, **call) == first
    assert len(heard) == n
    again = finetune(base_folder, tasks, overwrite=True, **call)
    assert len(heard) == 2 * n
    assert again.loss == first.loss


@pytest.mark.parametrize("change", [dict(lr=1e-3), dict(seed=1), dict(vocabulary=None), dict(tasks=make_tasks(9))])
def test_another_run_in_the_same_folder_is_refused(base_folder, tasks, vocabulary, tmp_path, change):
    call = dict(tasks=tasks, out=tmp_path / "run", vocabulary=vocabulary, **SMALL)
    finetune(base_folder, **call)
    with pytest.raises(OptionError, match="other options"):
        finetune(base_folder, **call | change)


def test_another_base_model_of_the_same_name_is_another_run(base_folder, tasks, vocabulary, tmp_path):
    finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=vocabulary, **SMALL)
    tiny_model("qwen3", rows=BASE + 2, tied=True, seed=5).save_pretrained(base_folder)
    with pytest.raises(OptionError, match="model_digest"):
        finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=vocabulary, **SMALL)


def test_a_model_in_memory_gives_the_result_of_the_same_model_in_a_folder(
    base_folder, tasks, vocabulary, tokenizer, tmp_path
):
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    given = finetune(model, tasks, out=tmp_path / "a", vocabulary=vocabulary, tokenizer=tokenizer, **SMALL)
    loaded = finetune(base_folder, tasks, out=tmp_path / "b", vocabulary=vocabulary, **SMALL)
    assert given.loss == loaded.loss
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_a_run_works_outside_the_main_thread(base_folder, tasks, vocabulary, tmp_path):
    reports = []
    work = threading.Thread(
        target=lambda: reports.append(
            finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=vocabulary, **SMALL)
        )
    )
    work.start()
    work.join()
    assert reports[0].steps == 3


def test_cut_prompts_and_rows_left_out_are_counted_and_said(base_folder, vocabulary, tmp_path):
    tasks = Tasks((Row("p" * 200, "intent: dim"), Row("p", "x" * 200), *make_tasks(6)))
    notes = []
    report = finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=vocabulary, on_note=notes.append, **SMALL)
    assert (report.rows, report.prompts_cut, report.rows_left_out) == (7, 1, 1)
    assert [note.split()[0] for note in notes] == ["1", "1"]
    assert f"--max-length {POSITIONS}" in notes[0]


def test_a_jinja_template_goes_with_the_checkpoint(base_folder, tasks, vocabulary, tmp_path):
    (tmp_path / "t.jinja").write_text(CHAT)
    template = str(tmp_path / "t.jinja")
    finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=vocabulary, template=template, **SMALL)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert loaded.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "<s>user: hi\nassistant: "


@pytest.mark.parametrize("ngrams", [False, True])
@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_run_without_the_base_s_chat_template_does_not_carry_it(
    base_folder, tasks, vocabulary, tmp_path, ngrams, where
):
    """What reads the run next, ours or not, must see prompts as it was trained to."""
    base, run = tmp_path / "with_template", tmp_path / "run"
    shutil.copytree(base_folder, base)
    if where == "chat_template.jinja":
        (base / where).write_text(CHAT)
    else:
        write_json(base / where, read_json(base / where) | {"chat_template": CHAT})
    assert make_template(load_tokenizer(base)).name == "chat"
    kept = vocabulary if ngrams else None
    finetune(base, tasks, out=run, vocabulary=kept, template="plain", **SMALL)
    assert AutoTokenizer.from_pretrained(run).chat_template is None
    assert make_template(load_tokenizer(base_of(run))).name == "plain"
    assert (
        not ngrams or AutoTokenizer.from_pretrained(run / "base_tokenizer").chat_template == CHAT
    )  # given back as it was
    again = tmp_path / "again"
    finetune(base, tasks, out=again, vocabulary=kept, template="chat", **SMALL)
    assert make_template(load_tokenizer(again)).name == make_template(load_tokenizer(base_of(again))).name == "chat"


def test_stock_generation_stops_at_the_end_of_the_target(base_folder, tasks, vocabulary, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    model.generation_config.eos_token_id = 7
    model.save_pretrained(base_folder)
    finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=vocabulary, **SMALL)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run").generation_config.eos_token_id == [1, 7]


def test_an_enriched_model_is_trained_further_with_its_ngrams(base_folder, tasks, eval_tasks, vocabulary, tmp_path):
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    finetune(base_folder, tasks, out=first, vocabulary=vocabulary, **SMALL)
    still = SMALL | {"lr": 1e-12}
    report = finetune(first, tasks, out=second, eval_tasks=eval_tasks, **still)
    assert report.rows_report is None
    assert report.tokens_per_output < report.base_tokens_per_output
    assert EnrichedVocabulary.load(second).ngrams == vocabulary.ngrams
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (first, second))
    assert before.keys() == after.keys()
    for name, tensor in before.items():  # rows made anew would differ
        torch.testing.assert_close(tensor, after[name], rtol=0, atol=1e-6)
    finetune(first, tasks, out=third, eval_tasks=eval_tasks, vocabulary=vocabulary, **still)  # the same n-grams
    assert lines_of(third)[-1]["eval_loss"] == lines_of(second)[-1]["eval_loss"]
    other = EnrichedVocabulary(BASE, vocabulary.ngrams[:2], fingerprint=vocabulary.fingerprint)
    with pytest.raises(OptionError, match="has n-grams of its own and cannot take others"):
        finetune(first, tasks, out=tmp_path / "fourth", vocabulary=other, **still)


def test_an_overwritten_run_is_gone_only_when_all_checks_have_passed(base_folder, tasks, vocabulary, tmp_path):
    out = tmp_path / "run"
    finetune(base_folder, tasks, out=out, vocabulary=vocabulary, **SMALL)
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(DataError, match="no output fits"):
        finetune(base_folder, tasks, out=out, vocabulary=vocabulary, max_length=2, overwrite=True, **SMALL)
    with pytest.raises(OptionError, match="the folder of the model that is trained"):
        finetune(out, tasks, out=out, overwrite=True, **SMALL)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == files


def test_ngrams_beside_a_model_without_their_rows_are_refused(base_folder, tasks, tokenizer, vocabulary, tmp_path):
    write_tokenizer(tokenizer, vocabulary, base_folder)
    with pytest.raises(ModelError, match=f"has {vocabulary.size} ids, the model {BASE + 2} rows"):
        finetune(base_folder, tasks, out=tmp_path / "run", **SMALL)


def test_a_vocabulary_of_another_tokenizer_is_refused(base_folder, tasks, vocabulary, tmp_path):
    other = EnrichedVocabulary(vocabulary.base_size, vocabulary.ngrams, fingerprint="sha256:0")
    with pytest.raises(FingerprintError, match="tasc enrich"):
        finetune(base_folder, tasks, out=tmp_path / "run", vocabulary=other, **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_stock_transformers_would_load_differently_is_refused(tasks, tokenizer, tmp_path):
    model = tiny_model("qwen2", rows=BASE)  # beside it AutoTokenizer puts Qwen2's pre-tokenizer into any tokenizer
    with pytest.raises(TokenizerError, match="loads this tokenizer as Qwen2Tokenizer"):
        finetune(model, tasks, out=tmp_path / "run", tokenizer=tokenizer, **SMALL)
    assert not (tmp_path / "run").exists()


def test_more_tokens_than_the_model_has_positions_are_refused(base_folder, tasks, tmp_path):
    with pytest.raises(OptionError, match=f"{POSITIONS} positions"):
        finetune(base_folder, tasks, out=tmp_path / "run", max_length=POSITIONS + 1, **SMALL)


def test_a_damaged_checkpoint_is_one_clear_error(base_folder, tasks, tmp_path):
    (base_folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        finetune(base_folder, tasks, out=tmp_path / "run", **SMALL)


def test_qlora_says_what_it_needs(base_folder, tasks, vocabulary, tokenizer, tmp_path, monkeypatch):
    call = dict(out=tmp_path / "run", vocabulary=vocabulary, tokenizer=tokenizer, method="qlora", **SMALL)
    with pytest.raises(OptionError, match="pass the model's name or folder"):
        finetune(AutoModelForCausalLM.from_pretrained(base_folder), tasks, **call)
    monkeypatch.setattr("tasc.train.loading.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tasc-lm\[quant\]'"):
        finetune(base_folder, tasks, **call | dict(out=tmp_path / "other"))


def test_qlora_folds_its_updates_into_the_bfloat16_base(base_folder, tasks, eval_tasks, vocabulary, tmp_path):
    pytest.importorskip("bitsandbytes", reason="4-bit training needs the extra [quant]")
    wide = dict(hidden_size=64, intermediate_size=64, head_dim=32)  # its CPU kernels want multiples of 32
    tiny_model("qwen3", rows=BASE + 2, tied=True, **wide).save_pretrained(base_folder)
    out = tmp_path / "run"
    options = SMALL | dict(max_steps=25)
    report = finetune(
        base_folder, tasks, out=out, eval_tasks=eval_tasks, vocabulary=vocabulary, method="qlora", **options
    )
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.bfloat16
    assert not hasattr(model.config, "quantization_config")
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    moved = [
        float((new.detach().float() - old.detach()).abs().max())
        for (_, new), (name, old) in zip(model.named_parameters(), base.named_parameters(), strict=True)
        if "proj.weight" in name
    ]
    assert min(moved) > 0
    assert report.eval_loss < lines_of(out)[0]["loss"]


def test_sharded_launches_are_refused(base_folder, tasks, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(OptionError, match="FSDP is not supported"):
        finetune(base_folder, tasks, out=tmp_path / "run", **SMALL)


def test_the_same_seed_gives_the_same_weights(base_folder, tasks, vocabulary, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        finetune(base_folder, tasks, out=tmp_path / name, vocabulary=vocabulary, seed=seed, **SMALL)
    a, b, c = (np.frombuffer((tmp_path / n / "model.safetensors").read_bytes(), np.uint8) for n in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
