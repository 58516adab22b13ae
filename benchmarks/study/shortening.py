"""Outputs against the budget, for n-grams of up to 2, 3 and 4 tokens, in training and held-out (the paper's Figure 2); and
how the distribution of the output's tokens changes (its Appendix D). Qwen2.5 tokens, Algorithm 1 as published, no training.
"""

import math
from typing import Any

import numpy as np
from _models import SHARED

from study.corpora import RESULTS
from tasc.corpus import TokenCorpus, load_tasks, load_tokenizer
from tasc.corpus.variability import ngram_counts, renyi_entropy
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary, enrich

CORPORA = ("massive_en", "snips", "eurlex57k_short", "ud_ewt_pos", "medquad", "stories")
N_MAX = (2, 3, 4)
BUDGETS = (0, 25, 50, 100, 150, 250, 350, 500, 700, 1000)
RANKED = (0, 150, 500, 1000)  # budgets whose distribution is kept, at n_max 4
RANKS = np.unique(np.geomspace(1, 5000, 60).astype(int))


def measure() -> None:
    tokenizer = load_tokenizer(SHARED / "tokenizers" / "qwen2.5")
    found = {corpus: _corpus(corpus, tokenizer) for corpus in CORPORA}
    write_json(RESULTS / "shortening.json", {"tokenizer": "qwen2.5", "ranks": RANKS.tolist(), "corpora": found})


def _corpus(corpus: str, tokenizer: Any) -> dict[str, Any]:
    print(f"shortening {corpus}", flush=True)
    tasks = {name: load_tasks(SHARED / "data" / corpus / f"{name}.jsonl.gz") for name in ("train", "test")}
    encoded = {name: TokenCorpus.encode(rows.completions, tokenizer) for name, rows in tasks.items()}
    n_bytes = {name: sum(len(text.encode()) for text in rows.completions) for name, rows in tasks.items()}
    points, ranked = [], {}
    for n_max in N_MAX:
        longest = enrich(tasks["train"], tokenizer, budget=max(BUDGETS), n_max=n_max, method="paper").vocabulary
        for budget in BUDGETS:
            first = EnrichedVocabulary(longest.base_size, longest.ngrams[:budget], longest.segmentation)
            merged = {name: first.merge_corpus(rows) for name, rows in encoded.items()}
            points += [_point(merged[name], n_bytes[name], first) | {"n_max": n_max, "budget": budget, "split": name}
                       for name in encoded]  # fmt: skip
            if budget in RANKED and n_max == max(N_MAX):
                ranked[str(budget)] = _shares_by_rank(merged["train"])
    return {"rows": {name: len(rows) for name, rows in tasks.items()}, "points": points, "share_by_rank": ranked}


def _point(merged: TokenCorpus, n_bytes: int, vocabulary: EnrichedVocabulary) -> dict[str, float]:
    counts = ngram_counts(merged, 1)
    shannon = renyi_entropy(counts)
    return {
        "added": len(vocabulary),
        "tokens_per_output": merged.n_tokens / len(merged),
        "bytes_per_token": n_bytes / merged.n_tokens,
        "h2_nats": renyi_entropy(counts, 2),
        "shannon_nats": shannon,
        "normalised_entropy": shannon / math.log(vocabulary.size),
    }


def _shares_by_rank(merged: TokenCorpus) -> list[float]:
    counts = np.sort(ngram_counts(merged, 1))[::-1]
    return [float(counts[rank - 1] / counts.sum()) for rank in RANKS if rank <= len(counts)]
