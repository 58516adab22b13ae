"""The miner: how fast, beside a naive recount and Hugging Face's BPE trainer, and how short its outputs are.

    python benchmarks/miner.py [--parts quality speed large pcs] [--rounds 3]

quality  held-out ratio of `best` over `paper` on four corpora at M = 250, 500, 1000 (method chosen on train, table on test),
         and CPU seconds of the choice and of encoding, which a busy machine leaves nearly as they are
speed    seconds of Algorithm 1 (M = 1000); a naive recount; for n_max 2 the Rust BPE trainer on the same id sequences, in turns
large    100M tokens (medquad repeated with 5% noise): seconds and peak memory, in a process of its own
pcs      what the Prefix Collision Score's threshold costs in shortening, on two corpora

Each part prints a table, then one JSON line, and is stored in benchmarks/results/miner.json; docs/results/miner.md shows all.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tasc.corpus import TokenCorpus, load_tasks, load_tokenizer
from tasc.files import write_json
from tasc.vocab import mine, mine_vocabulary, speller
from tasc.vocab.enrich import warm_up

SHARED = Path(os.environ.get("TASC_SHARED", Path(__file__).parents[2] / "shared"))
RESULTS = Path(__file__).parent / "results" / "miner.json"
BOUND = Path(__file__).parent / "results" / "miner_bound.json"
PAGE = Path(__file__).parents[1] / "docs" / "results" / "miner.md"
CORPORA = ("massive_en", "snips", "eurlex57k_short", "ud_ewt_pos")
BASE_SIZE = 151665


def encoded(corpus: str, split: str) -> TokenCorpus:
    path = SHARED / "data" / corpus / f"{split}.jsonl.gz"
    if not path.exists():
        raise SystemExit(f"{path}: missing; set TASC_SHARED to the folder that holds data/ and tokenizers/")
    return TokenCorpus.encode(load_tasks(path).completions, load_tokenizer(SHARED / "tokenizers" / "qwen2.5"))


def options(budget: int, method: str, pcs: float | None = None, n_max: int = 4) -> dict[str, Any]:
    return {"budget": budget, "n_max": n_max, "method": method, "pcs": pcs}


def quality(_rounds: int) -> dict[str, Any]:
    spell = speller(load_tokenizer(SHARED / "tokenizers" / "qwen2.5"))
    rows, gains = [], []
    for corpus in CORPORA:
        train, test = encoded(corpus, "train"), encoded(corpus, "test")
        for budget in (250, 500, 1000):
            row: dict[str, Any] = {"corpus": corpus, "budget": budget}
            for method in ("paper", "best"):
                begin = time.process_time()
                vocabulary, _, _ = mine_vocabulary(train, spell, options=options(budget, method))
                row[f"{method}_seconds"] = round(time.process_time() - begin, 2)
                begin = time.process_time()
                merged = vocabulary.merge_corpus(train)
                row[f"{method}_merge_tokens_per_s"] = round(train.n_tokens / (time.process_time() - begin))
                row[f"{method}_train"] = train.n_tokens / merged.n_tokens
                row[f"{method}_test"] = test.n_tokens / vocabulary.merge_corpus(test).n_tokens
            row["gain"] = row["best_test"] / row["paper_test"]
            gains.append(math.log(row["gain"]))
            rows.append(row)
            print(f"{corpus:16} M={budget:4}  paper {row['paper_test']:.3f}  best {row['best_test']:.3f}  "
                  f"gain {row['gain']:.4f}  ({row['paper_seconds']}s, {row['best_seconds']}s)", flush=True)  # fmt: skip
    mean = math.exp(sum(gains) / len(gains))
    print(f"geometric mean {mean:.4f}, smallest {math.exp(min(gains)):.4f}")
    return {"rows": rows, "geometric_mean": mean, "smallest": math.exp(min(gains))}


def speed(rounds: int) -> dict[str, Any]:
    rows = []
    for corpus in (*CORPORA, "medquad"):
        train = encoded(corpus, "train")
        row = {"corpus": corpus, "rows": len(train), "tokens": train.n_tokens}
        row["n_max_4_s"] = [seconds(lambda t=train: run_miner(t, 4)) for _ in range(rounds)]
        ours, theirs = [], []
        texts = private_use(train)
        for _ in range(rounds):  # in turns
            ours.append(seconds(lambda t=train: run_miner(t, 2)))
            theirs.append(seconds(lambda t=texts: run_bpe_trainer(t)))
        row |= {"n_max_2_s": ours, "bpe_trainer_s": theirs}
        row["times_faster"] = [b / a for a, b in zip(ours, theirs, strict=True)]
        if corpus == "massive_en":
            row["naive_s_per_merge"] = naive_recount(train, merges=5) / 5
        rows.append(row)
        middle = {k: statistics.median(v) for k, v in row.items() if isinstance(v, list)}
        print(f"{corpus:16} {train.n_tokens:9,} tokens  n_max 4: {middle['n_max_4_s']:.2f} s   n_max 2: {middle['n_max_2_s']:.2f} s, "
              f"BPE trainer {middle['bpe_trainer_s']:.2f} s, {middle['times_faster']:.1f}x "
              f"({min(row['times_faster']):.1f}-{max(row['times_faster']):.1f})", flush=True)  # fmt: skip
    return {"merges": 1000, "rounds": rounds, "rows": rows}


def run_miner(corpus: TokenCorpus, n_max: int) -> None:
    distinct, counts = corpus.unique()
    assert sum(1 for _ in mine(distinct, counts, budget=1000, base_size=BASE_SIZE, n_max=n_max)) == 1000


def private_use(corpus: TokenCorpus) -> list[str]:
    """Each id as one private-use character, so that the BPE trainer sees the same sequences."""
    known, dense = np.unique(corpus.tokens, return_inverse=True)
    assert known.size < 0xFFFE, "one private-use plane holds 65,534 characters"
    characters = "".join(chr(0xF0000 + k) for k in dense)
    return [characters[a:b] for a, b in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)]


def run_bpe_trainer(texts: list[str]) -> None:
    from tokenizers import Tokenizer, models, trainers

    alphabet = len(set("".join(texts)))
    trainer = trainers.BpeTrainer(vocab_size=alphabet + 1000, limit_alphabet=alphabet, show_progress=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == alphabet + 1000


def naive_recount(corpus: TokenCorpus, *, merges: int, n_max: int = 4) -> float:
    """Seconds of Algorithm 1 by the book in plain Python: every n-gram counted again after each merge."""
    distinct, counts = corpus.unique()
    rows = [(row.tolist(), int(count)) for row, count in zip(distinct, counts, strict=True)]
    begin = time.perf_counter()
    for k in range(merges):
        found: Counter[tuple[int, ...]] = Counter()
        for row, count in rows:
            for n in range(2, n_max + 1):
                for i in range(len(row) - n + 1):
                    found[tuple(row[i : i + n])] += count
        best = max(found, key=lambda g: found[g] * (len(g) - 1))
        rows = [(replaced(row, best, BASE_SIZE + k), count) for row, count in rows]
    return time.perf_counter() - begin


def replaced(row: list[int], ngram: tuple[int, ...], new_id: int) -> list[int]:
    out, i = [], 0
    while i < len(row):
        if tuple(row[i : i + len(ngram)]) == ngram:
            out.append(new_id)
            i += len(ngram)
        else:
            out.append(row[i])
            i += 1
    return out


def large(_rounds: int) -> dict[str, Any]:
    """Runs `large_child` alone in a process, so that the peak of memory is the miner's."""
    out = subprocess.run([sys.executable, __file__, "--child"], check=True, capture_output=True, text=True)
    result = json.loads(out.stdout.strip().splitlines()[-1])
    print(f"{result['tokens']:,} tokens: {result['seconds']:.0f} s, peak {result['peak_gib']:.1f} GiB", flush=True)
    return result


def large_child(n_tokens: int = 100_000_000) -> dict[str, Any]:
    medquad = encoded("medquad", "train")
    rng, known = np.random.default_rng(0), np.unique(medquad.tokens)
    copies = -(-n_tokens // medquad.n_tokens)
    tokens = np.tile(medquad.tokens, copies)
    noisy = rng.random(tokens.size, np.float32) < 0.05
    tokens[noisy] = rng.choice(known, int(noisy.sum()))
    offsets = np.concatenate([[0], np.cumsum(np.tile(medquad.lengths, copies))])
    corpus = TokenCorpus(tokens, offsets)
    del tokens, noisy
    warm_up()
    took = seconds(lambda: run_miner(corpus, 4))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"tokens": corpus.n_tokens, "rows": len(corpus), "merges": 1000, "seconds": took, "peak_gib": peak}


def pcs(_rounds: int) -> dict[str, Any]:
    spell = speller(load_tokenizer(SHARED / "tokenizers" / "qwen2.5"))
    rows = []
    for corpus in ("massive_en", "eurlex57k_short"):
        train, test = encoded(corpus, "train"), encoded(corpus, "test")
        for alpha in (None, 0.1, 0.03, 0.01, 0.003, 0.001):
            row: dict[str, Any] = {"corpus": corpus, "alpha": alpha}
            for method in ("paper", "best"):
                vocabulary, _, _ = mine_vocabulary(train, spell, options=options(500, method, alpha))
                row[method] = test.n_tokens / vocabulary.merge_corpus(test).n_tokens
                row[f"{method}_added"] = len(vocabulary)
                row[f"{method}_max_pcs"] = max(n.pcs for n in vocabulary.ngrams)
                row[f"{method}_mean_pcs"] = statistics.mean(n.pcs for n in vocabulary.ngrams)
            rows.append(row)
            print(f"{corpus:16} alpha {alpha or 'off':>5}  paper {row['paper']:.3f} ({row['paper_added']})  "
                  f"best {row['best']:.3f} ({row['best_added']})", flush=True)  # fmt: skip
    return {"budget": 500, "rows": rows}


def page(stored: dict[str, Any]) -> str:
    """docs/results/miner.md from the JSON."""
    lines = [
        "# The miner",
        "",
        "Made by `python benchmarks/miner.py` (`benchmarks/results/miner.json`), Qwen2.5 tokens, n_max 4, PCS off.",
    ]
    if "quality" in stored:
        lines += quality_lines(stored["quality"])
    if BOUND.exists():
        lines += bound_lines(json.loads(BOUND.read_text()))
    if "speed" in stored:
        lines += speed_lines(stored["speed"])
    if "large" in stored:
        large = stored["large"]
        lines += ["", f"{large['tokens']:,} tokens in {large['rows']:,} distinct rows (medquad repeated with 5% noise), 1,000 merges: "
                  f"{large['seconds']:.0f} s, {large['peak_gib']:.1f} GiB at the peak."]  # fmt: skip
    if "pcs" in stored:
        lines += pcs_lines(stored["pcs"])
    return "\n".join(lines) + "\n"


def quality_lines(found: dict[str, Any]) -> list[str]:
    lines = ["", "## Held-out outputs: tokens before over tokens after", "",
             "| corpus | M | paper | best | best over paper | CPU seconds, paper | best | encoding with best, M tokens/s |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in found["rows"]:
        rate = r["best_merge_tokens_per_s"] / 1e6
        lines.append(f"| {r['corpus']} | {r['budget']} | {r['paper_test']:.3f} | {r['best_test']:.3f} | {r['gain']:.4f} | "
                     f"{r['paper_seconds']:.1f} | {r['best_seconds']:.1f} | {rate:.1f} |")  # fmt: skip
    return [*lines, "", f"Geometric mean of the gain {found['geometric_mean']:.4f}, smallest {found['smallest']:.4f}."]


def bound_lines(found: list[dict[str, Any]]) -> list[str]:
    lines = ["", "## How much any choice of n-grams could gain", "",
             "`python benchmarks/miner_bound.py`: tokens before over tokens after on the training outputs, and the ratio that no choice of",
             "M n-grams, up to 48 ids long and found at least twice, can exceed there, whatever the method.", "",
             "| corpus | M | paper | best | bound | best over paper | bound over paper |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {r['corpus']} | {r['budget']} | {r['paper']:.3f} | {r['best']:.3f} | {r['bound']:.3f} | "
        f"{r['best_over_paper']:.4f} | {r['bound_over_paper']:.4f} |"
        for r in found
    ]
    mean = math.exp(statistics.mean(math.log(r["bound_over_paper"]) for r in found))
    return [*lines, "", f"Geometric mean of the bound over Algorithm 1: {mean:.4f}."]


def speed_lines(found: dict[str, Any]) -> list[str]:
    lines = ["", "## Speed", "",
             f"Seconds for {found['merges']:,} merges, median of {found['rounds']} rounds, one core; the BPE trainer of Hugging Face",
             "`tokenizers` (Rust, both cores) on the same id sequences as private-use characters, in turns.", "",
             "| corpus | tokens | n_max 4 | n_max 2 | BPE trainer | times faster (range) |", "|---|---|---|---|---|---|"]  # fmt: skip
    for r in found["rows"]:
        middle = {k: statistics.median(v) for k, v in r.items() if isinstance(v, list)}
        low, high = min(r["times_faster"]), max(r["times_faster"])
        lines.append(f"| {r['corpus']} | {r['tokens']:,} | {middle['n_max_4_s']:.2f} | {middle['n_max_2_s']:.2f} | "
                     f"{middle['bpe_trainer_s']:.2f} | {middle['times_faster']:.1f} ({low:.1f}-{high:.1f}) |")  # fmt: skip
    naive = next((r["naive_s_per_merge"] for r in found["rows"] if "naive_s_per_merge" in r), None)
    return (
        lines
        if naive is None
        else [*lines, "", f"A naive recount in plain Python takes {naive:.2f} s for each merge on massive_en."]
    )


def pcs_lines(found: dict[str, Any]) -> list[str]:
    lines = ["", "## Prefix Collision Score", "",
             f"Held-out ratio at M={found['budget']} when n-grams with a score of alpha or more are left out, with the mean score of those",
             "that stay.", "", "| corpus | alpha | paper | mean PCS | best | mean PCS |", "|---|---|---|---|---|---|"]  # fmt: skip
    return lines + [
        f"| {r['corpus']} | {r['alpha'] or 'off'} | {r['paper']:.3f} ({r['paper_added']}) | {r['paper_mean_pcs']:.4f} | "
        f"{r['best']:.3f} ({r['best_added']}) | {r['best_mean_pcs']:.4f} |"
        for r in found["rows"]
    ]


def write_page() -> None:
    """Renew docs/results/miner.md from what is stored."""
    PAGE.write_text(page(json.loads(RESULTS.read_text()) if RESULTS.exists() else {}))


def seconds(run: Any) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


PARTS = {"quality": quality, "speed": speed, "large": large, "pcs": pcs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(large_child()))
        return
    warm_up()
    for part in args.parts:
        found = PARTS[part](args.rounds)
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        write_json(RESULTS, stored | {part: found})
        write_page()
        print(json.dumps({part: found}), flush=True)


if __name__ == "__main__":
    main()
