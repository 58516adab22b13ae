"""What a pass over a few tokens costs on a CPU by how weights lie in memory (`tasc.decode.lay_out_for_cpu`).

Qwen2 models with random weights, of three sizes up to that of Qwen2.5-0.5B: torch's own order, all weights input first,
and large layers packed take turns, each measured as `tasc profile` does, of each size the fastest pass. Prints a table,
then one JSON line. About 12 minutes.

    python benchmarks/cpu_passes.py [--threads 1 2] [--models 4m 100m 0.5b] [--json FILE]
"""

import argparse
import copy
import json
import statistics
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from _commit import commit_and_date
from _measuring import machine
from _models import SHAPES
from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

from tasc.decode import lay_out_for_cpu
from tasc.decode.profile import profile
from tasc.files import write_json

MODELS: dict[str, dict[str, Any]] = {
    "4m": {
        "vocab_size": 4500, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 4,
    },
    "100m": {
        "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
        "num_attention_heads": 12, "num_key_value_heads": 4,
    },
    "0.5b": SHAPES["qwen2.5-0.5b"],
}  # fmt: skip
TOKENS, BATCH_SIZES, CONTEXT = (1, 2, 3, 4, 6, 8, 12, 16), (1, 8), 128
ROUNDS, REPEATS = 3, {"4m": 15, "100m": 5, "0.5b": 2}


def measure(model: str, threads: int) -> list[dict[str, Any]]:
    """Milliseconds of a pass in each order: the fastest, and how many times as fast as torch's the last is, round by round."""
    torch.set_num_threads(threads)
    set_seed(0)
    sizes: dict[str, Any] = {"tie_word_embeddings": True} | MODELS[model]
    own = Qwen2ForCausalLM(Qwen2Config(**sizes)).float().eval()
    models = {"torch": own}
    with patch("tasc.decode.cpu.MOST_PACKED", 0):
        models["input_first"] = lay_out_for_cpu(copy.deepcopy(own))
    models["packed"] = lay_out_for_cpu(copy.deepcopy(own))
    rounds: dict[str, list[Any]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, laid_out in models.items():
            options: Any = {"tokens": TOKENS, "batch_sizes": BATCH_SIZES, "contexts": (CONTEXT,)}
            rounds[name].append(profile(laid_out, **options, repeats=REPEATS[model]).ms)
    found = []
    for b, batch_size in enumerate(BATCH_SIZES):
        for k, tokens in enumerate(TOKENS):
            ms = {name: [float(taken[b][0][k]) for taken in rounds[name]] for name in models}
            ratios = [theirs / ours for theirs, ours in zip(ms["torch"], ms["packed"], strict=True)]
            found.append(
                {"model": model, "threads": threads, "batch_size": batch_size, "tokens": tokens}
                | {f"{name}_ms": round(min(taken), 3) for name, taken in ms.items()}
                | {"ratio": round(statistics.median(ratios), 2), "spread": [round(f(ratios), 2) for f in (min, max)]}
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = []
    for model in args.models:
        for threads in args.threads:
            results += measure(model, threads)
            for row in results[-len(TOKENS) * len(BATCH_SIZES) :]:
                print(
                    f"{row['model']:>5} {row['threads']} threads, {row['batch_size']} x {row['tokens']:>2} tokens: torch's order "
                    f"{row['torch_ms']:8.2f} ms, input first {row['input_first_ms']:8.2f} ms, packed {row['packed_ms']:8.2f} ms, "
                    f"{row['ratio']:.2f} times as fast as torch's "
                    f"({row['spread'][0]:.2f}-{row['spread'][1]:.2f})",
                    flush=True,
                )
    report = {**commit_and_date(), "machine": machine(), "context": CONTEXT, "results": results}
    print(json.dumps(report))
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
