"""How much shorter than Algorithm 1 could any choice of n-grams be? A Lagrangian relaxation says: at most so much.

    python benchmarks/miner_bound.py [--corpora massive_en ...] [--budgets 250 500] [--per-token 180] [--rounds 500]

Choosing M n-grams for fewest-tokens segmentation is an integer program: a shortest path in each output's segmentation graph,
whose arcs may be used only as far as their n-gram is chosen, and at most M chosen. The relaxation (`_bound.py`) gives a number
of tokens that no choice comes below, on all training outputs, among all n-grams of up to 48 ids that occur twice: the
M * per-token of highest reward count * (n - 1) have prices, the others could save no more than their reward (with too few
prices the bound is loose). Where outputs to come are like those of training, no choice can be expected to do better on them
either: what is best for all outputs does no better on the training outputs than what is best for those. Results go to
benchmarks/results/miner_bound.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _bound import Graph, bound
from miner import BASE_SIZE, CORPORA, encoded, write_page
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary, Ngram, _mining, _selection, mine
from tasc.vocab._trie import build_trie
from tasc.vocab.best import choose
from tasc.vocab.miner import separated

RESULTS = Path(__file__).parent / "results" / "miner_bound.json"
LONGEST, MIN_COUNT = 48, 2


def frequent_ngrams(
    corpus: TokenCorpus, counts: NDArray[np.int64], most: int
) -> tuple[list[tuple[int, ...]], NDArray[np.int64], int]:
    """The `most` n-grams of highest reward, their lengths, and the reward of the first that is left out."""
    tokens, weights = separated(corpus, counts)
    unigrams = _mining.unigram_counts(tokens, weights, BASE_SIZE)
    nodes = _mining.count_all(tokens, weights, unigrams, LONGEST, MIN_COUNT, _mining.new_nodes(1 << 16))
    found = np.flatnonzero(nodes.counts[: nodes.used[0]] >= MIN_COUNT)
    lengths = nodes.levels[found].astype(np.int64)
    rewards = nodes.counts[found] * (lengths - 1)
    order = np.argsort(-rewards, kind="stable")
    left_out = int(rewards[order[most]]) if most < order.size else 0
    return _mining.ids_of_nodes(nodes, found[order[:most]]), lengths[order[:most]], left_out


def graph_of(corpus: TokenCorpus, counts: NDArray[np.int64], candidates: list[tuple[int, ...]]) -> Graph:
    offsets, n = np.asarray(corpus.offsets), corpus.n_tokens
    priced = _selection.find_arcs(np.asarray(corpus.tokens), offsets, *build_trie(candidates))
    single = _selection.Arcs(np.arange(n + 1), np.zeros(n, np.int32), np.ones(n, np.int16))
    return Graph(offsets, np.asarray(counts, np.float64), single, priced)


def compare(name: str, budget: int, per_token: int, rounds: int) -> dict[str, Any]:
    corpus, counts = encoded(name, "train").unique()
    before = int((corpus.lengths * counts).sum())
    merges = list(mine(corpus, counts, budget=budget, base_size=BASE_SIZE))
    paper = EnrichedVocabulary(BASE_SIZE, tuple(Ngram(m.ids, m.parts) for m in merges))
    ((_, chosen),) = choose(corpus, counts, budgets=[budget], base_size=BASE_SIZE)
    best = EnrichedVocabulary(BASE_SIZE, tuple(Ngram(c.ids, c.ids) for c in chosen), "fewest")
    tokens = {k: int((v.merge_corpus(corpus).lengths * counts).sum()) for k, v in (("paper", paper), ("best", best))}
    begin = time.perf_counter()
    candidates, lengths, left_out = frequent_ngrams(corpus, counts, per_token * budget)
    least = bound(graph_of(corpus, counts, candidates), lengths, budget, left_out, rounds)
    return {
        "corpus": name, "budget": budget, "rows": len(corpus), "candidates": len(candidates), "rounds": rounds,
        "paper": before / tokens["paper"], "best": before / tokens["best"], "bound": before / least,
        "best_over_paper": tokens["paper"] / tokens["best"], "bound_over_paper": tokens["paper"] / least,
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=CORPORA, choices=CORPORA)
    parser.add_argument("--budgets", nargs="+", type=int, default=[250, 500, 1000])
    parser.add_argument("--per-token", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=500)
    args = parser.parse_args()
    for name in args.corpora:
        for budget in args.budgets:
            row = compare(name, budget, args.per_token, args.rounds)
            stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
            kept = [r for r in stored if (r["corpus"], r["budget"]) != (name, budget)]
            order = {(c, b): k for k, (c, b) in enumerate((c, b) for c in CORPORA for b in (250, 500, 1000))}
            write_json(RESULTS, sorted([*kept, row], key=lambda r: order.get((r["corpus"], r["budget"]), len(order))))
            write_page()
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
