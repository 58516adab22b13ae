"""How much shorter than Algorithm 1 could any choice of n-grams be? A linear program says: at most so much.

    python benchmarks/miner_bound.py [--corpora massive_en] [--budget 250] [--rows 3000] [--per-token 24]

Choosing M n-grams for fewest-tokens segmentation is an integer program: a shortest path in each output's segmentation graph,
whose arcs may be used only as far as their n-gram is chosen, and at most M chosen. Without the integers it is a linear program
whose value no choice among the candidates can beat. Candidates are Algorithm 1's 2M merges and the M * per-token n-grams of
highest reward, closed or not. It is solved (HiGHS) on a sample of the distinct training outputs, and compared there with both
methods. Results go to benchmarks/results/miner_bound.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from miner import BASE_SIZE, CORPORA, encoded
from numpy.typing import NDArray
from scipy.optimize import linprog

from tasc.corpus import TokenCorpus
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary, Ngram, _mining, _selection, mine
from tasc.vocab._trie import build_trie
from tasc.vocab.best import choose
from tasc.vocab.miner import separated

RESULTS = Path(__file__).parent / "results" / "miner_bound.json"
LONGEST, MIN_COUNT = 48, 2


def bound(corpus: TokenCorpus, counts: NDArray[np.int64], candidates: list[tuple[int, ...]], budget: int) -> float:
    """Tokens below which no choice of `budget` candidates can come."""
    arcs = _selection.find_arcs(np.asarray(corpus.tokens), np.asarray(corpus.offsets), *build_trie(candidates))
    n_rows, n = len(corpus), corpus.n_tokens
    row_of = np.repeat(np.arange(n_rows), corpus.lengths)
    node_of = np.arange(n) + row_of  # each row has one boundary more than tokens
    arc_at = np.repeat(np.arange(n), np.diff(arcs.starts))
    source = np.concatenate([node_of, node_of[arc_at]])
    target = np.concatenate([node_of + 1, node_of[arc_at] + arcs.lengths])
    weight = np.asarray(counts)[np.concatenate([row_of, row_of[arc_at]])].astype(float)
    n_arcs, n_own, n_chosen = source.size, arc_at.size, len(candidates)
    columns = n_arcs + n_chosen
    flow = sp.coo_matrix(
        (np.repeat([1.0, -1.0], n_arcs), (np.concatenate([source, target]), np.tile(np.arange(n_arcs), 2))),
        shape=(n + n_rows, columns),
    )
    supply = np.zeros(n + n_rows)
    starts = np.asarray(corpus.offsets[:-1]) + np.arange(n_rows)
    supply[starts] += 1
    supply[starts + corpus.lengths] -= 1
    used = sp.coo_matrix(
        (np.repeat([1.0, -1.0], n_own), (np.tile(np.arange(n_own), 2),
         np.concatenate([np.arange(n, n_arcs), n_arcs + arcs.candidates]))), shape=(n_own, columns),
    )  # fmt: skip
    total = sp.csr_matrix(np.concatenate([np.zeros(n_arcs), np.ones(n_chosen)])[None])
    solved = linprog(
        np.concatenate([weight, np.zeros(n_chosen)]),
        A_ub=sp.vstack([used, total]).tocsr(), b_ub=np.concatenate([np.zeros(n_own), [budget]]),
        A_eq=flow.tocsr(), b_eq=supply, bounds=(0, None), method="highs-ipm", options={"time_limit": 1500},
    )  # fmt: skip
    if solved.status != 0:
        raise SystemExit(f"not solved: {solved.message}")
    return float(solved.fun)


def frequent_ngrams(corpus: TokenCorpus, counts: NDArray[np.int64], most: int) -> list[tuple[int, ...]]:
    tokens, weights = separated(corpus, counts)
    unigrams = _mining.unigram_counts(tokens, weights, BASE_SIZE)
    nodes = _mining.count_all(tokens, weights, unigrams, LONGEST, MIN_COUNT, _mining.new_nodes(1 << 16))
    found = np.arange(nodes.used[0])
    found = found[nodes.counts[found] >= MIN_COUNT]
    rewards = nodes.counts[found] * (nodes.levels[found].astype(np.int64) - 1)
    return _mining.ids_of_nodes(nodes, found[np.argsort(-rewards, kind="stable")[:most]])


def compare(name: str, budget: int, n_rows: int, per_token: int) -> dict[str, Any]:
    distinct, counts = encoded(name, "train").unique()
    picked = np.sort(np.random.default_rng(0).permutation(len(distinct))[:n_rows])
    corpus, counts = distinct.take(picked), counts[picked]
    before = int((corpus.lengths * counts).sum())
    merges = list(mine(corpus, counts, budget=2 * budget, base_size=BASE_SIZE))
    paper = EnrichedVocabulary(BASE_SIZE, tuple(Ngram(m.ids, m.parts) for m in merges[:budget]))
    ((_, chosen),) = choose(corpus, counts, budgets=[budget], base_size=BASE_SIZE)
    best = EnrichedVocabulary(BASE_SIZE, tuple(Ngram(c.ids, c.ids) for c in chosen), "fewest")
    candidates = [m.ids for m in merges] + frequent_ngrams(corpus, counts, per_token * budget)
    begin = time.perf_counter()
    least = bound(corpus, counts, list(dict.fromkeys(candidates)), budget)
    tokens = {k: int((v.merge_corpus(corpus).lengths * counts).sum()) for k, v in (("paper", paper), ("best", best))}
    return {
        "corpus": name, "budget": budget, "rows": len(corpus), "candidates": len(set(candidates)),
        "paper": before / tokens["paper"], "best": before / tokens["best"], "bound": before / least,
        "best_over_paper": tokens["paper"] / tokens["best"], "bound_over_paper": tokens["paper"] / least,
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=["massive_en", "snips", "ud_ewt_pos"], choices=CORPORA)
    parser.add_argument("--budget", type=int, default=250)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--per-token", type=int, default=24)
    args = parser.parse_args()
    for name in args.corpora:
        row = compare(name, args.budget, args.rows, args.per_token)
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        write_json(RESULTS, [*stored, row])
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
