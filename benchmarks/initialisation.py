"""Which rows new tokens should begin with: every `--init` of `tasc train`, tied and untied, on massive_en.

A small Qwen2 model is trained from scratch in base tokens, as a stand-in for a pretrained one; then 250 n-grams get rows in
each way, and the same 60 LoRA steps follow. The held-out loss is in nats per byte of output, so that it can be compared with
the model before the surgery. Prints a table, then one JSON line. About 6 minutes on one idle core.

    python benchmarks/initialisation.py [--seeds 2] [--json FILE]

The default is `tasc.train.surgery.DEFAULT_INIT` and that of `--init` in `tasc.cli.train`; a test keeps them equal.
"""

import argparse
import copy
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from _models import SHARED, train_tokenizer
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, set_seed

from tasc.corpus import Tasks, load_tasks, make_template
from tasc.files import write_json
from tasc.train import Init, add_rows
from tasc.train.adapters import Method, prepare
from tasc.train.examples import Examples, collate, encode_examples, plan
from tasc.train.trainer import eval_metrics
from tasc.vocab import enrich

VOCAB_SIZE = 2000
BUDGET, EVAL_ROWS, BATCH = 250, 200, 64
BASE_STEPS, TUNING_STEPS, EVAL_AT = 250, 60, (0, 15, 60)
BASE_LR, TUNING_LR = 3e-3, 1e-3


def small_model(rows: int, eos_id: int, *, tied: bool, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 of about half a million parameters."""
    set_seed(seed)
    config = Qwen2Config(
        vocab_size=rows, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=tied,
        eos_token_id=eos_id, pad_token_id=eos_id, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def run_steps(
    model: torch.nn.Module, examples: Examples, n_steps: int, lr: float, seed: int, on_step: Callable[[int], None]
) -> None:
    """AdamW with a linear schedule over length-grouped batches, as `tasc train` has them."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)
    order = plan(examples.lengths, n_visits=n_steps * BATCH, batch_size=BATCH, seed=seed)
    for step in range(n_steps):
        on_step(step)
        rows = order[step * BATCH : (step + 1) * BATCH] % len(examples)
        model.train()
        batch = collate([examples.example(int(r)) for r in rows], pad_id=examples.eos_id)
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    on_step(n_steps)


@torch.no_grad()
def nats_per_byte(model: torch.nn.Module, examples: Examples) -> float:
    """Held-out loss of all targets, EOS included, per byte of output."""
    model.eval()
    nats = 0.0
    for start in range(0, len(examples), BATCH):
        rows = range(start, min(start + BATCH, len(examples)))
        batch = collate([examples.example(r) for r in rows], pad_id=examples.eos_id)
        nats += float(model(**batch).loss) * int((batch["labels"][:, 1:] >= 0).sum())
    return eval_metrics(nats, examples)["eval_nats_per_byte"]


def tune(
    base: PreTrainedModel, init: Init, train: Examples, held_out: Examples, method: Method, seed: int
) -> list[float]:
    """The held-out loss at each step of `EVAL_AT` after surgery with `init`."""
    model = copy.deepcopy(base)
    vocabulary = train.vocabulary
    assert vocabulary is not None
    add_rows(model, vocabulary, init=init)
    set_seed(seed)
    new_rows = range(vocabulary.base_size, vocabulary.size)
    learner = prepare(model, method=method, train_rows="all", new_rows=new_rows, lora_dropout=0.2)
    losses: list[float] = []
    run_steps(
        learner, train, TUNING_STEPS, TUNING_LR, seed,
        lambda step: losses.append(nats_per_byte(learner, held_out)) if step in EVAL_AT else None,
    )  # fmt: skip
    return losses


def measure(tasks: Tasks, held_out: Tasks, *, seeds: int) -> list[dict]:
    """One record per tie, seed and init."""
    tokenizer = train_tokenizer(tasks, VOCAB_SIZE)
    template = make_template(tokenizer, "plain")
    vocabulary = enrich(tasks, tokenizer, budget=BUDGET, method="best").vocabulary
    base_train, base_held_out = (encode_examples(t, template, max_length=256) for t in (tasks, held_out))
    train, merged_held_out = (
        encode_examples(t, template, vocabulary=vocabulary, max_length=256) for t in (tasks, held_out)
    )
    records = []
    for tied, seed in itertools.product((True, False), range(seeds)):
        base = small_model(len(tokenizer), template.eos_id, tied=tied, seed=seed)
        run_steps(base, base_train, BASE_STEPS, BASE_LR, seed, lambda step: None)
        before = nats_per_byte(base, base_held_out)
        for init in get_args(Init):
            losses = tune(base, init, train, merged_held_out, "lora", seed)
            records.append(dict(tied=tied, seed=seed, init=init, before=before, losses=losses))
            shown = "  ".join(f"{x:.4f}" for x in losses)
            print(f"{'tied' if tied else 'untied':7} seed {seed}  {init:6} before {before:.4f}  {shown}", flush=True)
    return records


def table(records: list[dict]) -> str:
    """Means over the seeds, one line per tie and init."""
    lines = [
        "| tied | init | " + " | ".join(f"step {step}" for step in EVAL_AT) + " |",
        "|---|---|" + "---|" * len(EVAL_AT),
    ]
    for tied, init in itertools.product((True, False), get_args(Init)):
        chosen = [r["losses"] for r in records if r["tied"] == tied and r["init"] == init]
        means = (f"{statistics.mean(at):.4f}" for at in zip(*chosen, strict=True))
        lines.append(f"| {'yes' if tied else 'no'} | {init} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the records there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    tasks, held_out = (load_tasks(SHARED / f"data/massive_en/{split}.jsonl.gz") for split in ("train", "validation"))
    records = measure(tasks, held_out[:EVAL_ROWS], seeds=arguments.seeds)
    print(table(records))
    result = dict(
        budget=BUDGET, base_steps=BASE_STEPS, tuning_steps=TUNING_STEPS, eval_at=EVAL_AT, records=records,
        seconds=round(time.perf_counter() - began, 1), machine=platform.platform(), torch=torch.__version__,
    )  # fmt: skip
    print(json.dumps(result))
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
