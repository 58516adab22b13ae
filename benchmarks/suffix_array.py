"""Suffix arrays: million tokens per second on one core, beside divsufsort (C) where `pydivsufsort` is installed.

    python benchmarks/suffix_array.py [--rounds 5] [--large]

The ids are the train outputs of three corpora in Qwen2.5 tokens, each row between a start and an end id. Two hard inputs
follow: one id 5M times and two copies of the largest corpus; `--large` adds that corpus repeated to 100M tokens.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasc.corpus import TokenCorpus, load_tasks, load_tokenizer
from tasc.draft.suffix import suffix_array

SHARED = Path(os.environ.get("TASC_SHARED", Path(__file__).parents[2] / "shared"))
CORPORA = ("massive_en", "eurlex57k_short", "medquad")
START, END = 151665, 151645
Sort = Callable[[np.ndarray], np.ndarray]


def ids_of(corpus: str) -> np.ndarray:
    tasks = load_tasks(SHARED / "data" / corpus / "train.jsonl.gz")
    rows = TokenCorpus.encode(tasks.completions, load_tokenizer(SHARED / "tokenizers" / "qwen2.5"))
    return np.concatenate([part for row in rows for part in ([START], row, [END])]).astype(np.int32)


def inputs(large: bool) -> Iterator[tuple[str, np.ndarray]]:
    ids = np.empty(0, np.int32)
    for corpus in CORPORA:
        ids = ids_of(corpus)
        yield corpus, ids
    yield "one id", np.zeros(5_000_000, np.int32)
    yield "medquad twice", np.tile(ids, 2)
    if large:
        yield "medquad x 28", np.tile(ids, 28)


def sorters() -> dict[str, Sort]:
    found: dict[str, Sort] = {"tasc": suffix_array}
    try:
        from pydivsufsort import divsufsort  # pyright: ignore[reportMissingImports]
    except ImportError:
        return found
    return found | {"divsufsort": divsufsort}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    suffix_array(np.array([1, 2, 1, 2, 1], np.int32))  # loads the compiled kernels
    rows = []
    for name, ids in inputs(args.large):
        # divsufsort wants ids without gaps; its time is without this, ours includes it
        ranks = np.unique(ids, return_inverse=True)[1].astype(np.uint16)
        row: dict[str, Any] = {"input": name, "tokens": len(ids)}
        rounds = 1 if len(ids) > 10_000_000 else args.rounds
        results, seconds = {}, {sorter: [] for sorter in sorters()}
        for _ in range(rounds):  # in turns
            for sorter, sort in sorters().items():
                given = ids if sorter == "tasc" else ranks
                begin = time.perf_counter()
                results[sorter] = sort(given)
                seconds[sorter].append(time.perf_counter() - begin)
        for sorter, found in results.items():
            np.testing.assert_array_equal(found, results["tasc"])
            row[sorter] = len(ids) / float(np.median(seconds[sorter])) / 1e6
        rows.append(row)
        print(f"{name:16} {len(ids):11,}  " + "  ".join(f"{s} {row[s]:5.1f} M/s" for s in results), flush=True)
    print(json.dumps({"rounds": args.rounds, "rows": rows}))


if __name__ == "__main__":
    main()
