"""Drafters on known outputs: tokens per pass, time per draft, time and bytes to keep what they know.

    python benchmarks/drafting.py [--parts tokens speed size shared] [--corpora massive_en ...] [--rounds 3]

tokens  tokens and drafted tokens per pass on test outputs: ours, the paper's method, its corpus alone, prompt lookup and
        SuffixDecoding (arctic-inference 0.1.1, warmed with the same outputs) with vLLM's defaults and with the best of a grid;
        the last and ours with trees too. Options are chosen on validation rows: SuffixDecoding's by tokens per pass, our
        thresholds so that it drafts less.
speed   microseconds of a draft of 10 tokens, of a start, and of a batch of 64; the systems take turns
size    seconds to build, bytes per corpus token (end tokens counted), seconds to the first draft in a fresh process

shared  memory of two processes that draft from one file of 100M tokens (made from the last corpus named)

Protocol: 400 rows, 150 of medquad (`default_rng(0).permutation`), Qwen2.5 ids, bare prompts cut to 1,500 tokens, the first
token is given, outputs end with the end token, drafts of at most 10 tokens that never go past the end. Drafters are built
from the training rows. Parts are stored in benchmarks/results/drafting.json; docs/results/drafting.md shows all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _commit import commit_and_date
from _drafting_page import MATCHED_TREES, RIVAL_TREES, page

from tasc.corpus import Tasks, TokenCorpus, load_tasks, load_tokenizer, spelling_classes
from tasc.decode.batch import Asked, propose_each
from tasc.draft import Drafter, sample
from tasc.draft.index import Index
from tasc.draft.interface import Drafts, propose
from tasc.draft.neighbours import Neighbours
from tasc.draft.paper import PaperDrafter
from tasc.draft.verify import accepted
from tasc.files import atomic_write, write_json
from tasc.replay import replay
from tasc.replay.peers import PromptLookup, SuffixDecoding

SHARED = Path(os.environ.get("TASC_SHARED", Path(__file__).parents[2] / "shared"))
RESULTS = Path(__file__).parent / "results" / "drafting.json"
PAGE = Path(__file__).parents[1] / "docs" / "results" / "drafting.md"
CORPORA = ("massive_en", "snips", "eurlex57k_short", "ud_ewt_pos", "medquad")
LONGEST_PROMPT, MAX_DRAFT, LONG_PROMPT, BATCH = 1500, 10, 1000, 64
LARGE = 100_000_000  # tokens
TIMED_TOKENS = 4000  # of the test outputs are drafted in a round
# depth of the trees, draft tokens per token of matched context, least estimated probability
GRID = tuple(product((24, 64), (1.0, 2.0, 4.0, 8.0), (0.0, 0.1)))
LEAST, HALVINGS = 0.001, 9  # thresholds are searched from here to 1, halving the distance of their logarithms
MARGIN = 0.97  # of what SuffixDecoding drafts on validation rows: test rows differ by some percent
OURS, MATCHED, BEST_RIVAL = "tasc best", "tasc best, no more drafted", "SuffixDecoding, best options"
TREES = "tasc best, trees"
WIDEST = 24  # tokens of a tree that ends by a threshold: passes that are sure of more draft more, the others less
SPARING: dict[str, Any] = {"tree": True, "longest": WIDEST}


@dataclass(frozen=True)
class Rows:
    """Prompts and outputs with their end token."""

    prompts: list[np.ndarray]
    outputs: list[np.ndarray]


class Corpus:
    """One task's rows, encoded once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tokenizer = load_tokenizer(SHARED / "tokenizers" / "qwen2.5")
        self.eos_id: int = self.tokenizer.eos_token_id  # type: ignore[assignment]
        self.vocab_size = 1 + max(self.tokenizer.get_vocab().values())
        self.spellings = spelling_classes(self.tokenizer)
        self.train_prompts, self.train = self._encode(self._load("train"))
        self.test, self.validation = self._sample("test"), self._sample("validation", 1 if name == "medquad" else 2)

    def _load(self, split: str) -> Tasks:
        path = SHARED / "data" / self.name / f"{split}.jsonl.gz"
        if not path.exists():
            raise SystemExit(f"{path}: missing; set TASC_SHARED to the folder that holds data/ and tokenizers/")
        return load_tasks(path)

    def _encode(self, tasks: Tasks) -> tuple[TokenCorpus, TokenCorpus]:
        prompts = (ids[:LONGEST_PROMPT] for ids in TokenCorpus.encode(tasks.prompts, self.tokenizer))
        return TokenCorpus.from_rows(prompts), TokenCorpus.encode(tasks.completions, self.tokenizer)

    def _sample(self, split: str, part: int = 1) -> Rows:
        tasks = self._load(split)
        n = (150 if self.name == "medquad" else 400) // part
        chosen = np.random.default_rng(0).permutation(len(tasks))[:n]
        prompts, outputs = self._encode(Tasks(tuple(tasks[int(row)] for row in chosen)))
        return Rows(list(prompts), [np.append(ids, np.int32(self.eos_id)) for ids in outputs])

    @property
    def n_tokens(self) -> int:
        """Training output tokens, end tokens counted."""
        return self.train.n_tokens + len(self.train)

    def drafter(self) -> Drafter:
        return Drafter.build(
            self.train, self.train_prompts, eos_id=self.eos_id, vocab_size=self.vocab_size, spellings=self.spellings
        )

    def suffix(self, depth: int) -> SuffixDecoding:
        end = np.array([self.eos_id], np.int32)
        return SuffixDecoding((np.concatenate([ids, end]) for ids in self.train), max_tree_depth=depth, tree=True)


corpus_of = cache(Corpus)


def figures(
    drafter: Drafts, rows: Rows, least: float = 0.0, *, tree: bool = False, longest: int = MAX_DRAFT
) -> dict[str, float]:
    found = replay(drafter, rows.prompts, rows.outputs, max_draft=longest, min_probability=least, tree=tree)
    return {"tokens_per_pass": found.tokens_per_pass, "drafted_per_pass": found.drafted_per_pass}


def with_options(cache_of_depth: SuffixDecoding, factor: float, least: float) -> SuffixDecoding:
    cache_of_depth.options = {"max_spec_factor": factor, "min_token_prob": least}
    return cache_of_depth


def tokens_of(corpus: Corpus) -> dict[str, Any]:
    """The table of one corpus, and the options chosen on validation rows."""
    drafter = corpus.drafter()
    caches = {depth: corpus.suffix(depth) for depth in sorted({depth for depth, _, _ in GRID})}
    (depth, factor, least), drafted = _best_options(caches, corpus.validation, tree=False)
    of_trees, drafted_by_trees = _best_options(caches, corpus.validation, tree=True)
    threshold = _threshold(drafter, corpus.validation, MARGIN * drafted)
    threshold_of_trees = _threshold(drafter, corpus.validation, MARGIN * drafted_by_trees, **SPARING)
    test = corpus.test
    table = {
        OURS: figures(drafter, test),
        MATCHED: figures(drafter, test, threshold),
        TREES: figures(drafter, test, tree=True),
        MATCHED_TREES: figures(drafter, test, threshold_of_trees, **SPARING),
        "paper": figures(PaperDrafter(drafter.index), test),
        "corpus alone (lambda 1)": figures(PaperDrafter(drafter.index, lam=1.0), test),
        "prompt lookup": figures(PromptLookup(eos_id=corpus.eos_id, max_ngram=3), test),
        "SuffixDecoding, vLLM's defaults": figures(with_options(caches[24], 1.0, 0.1), test),
        BEST_RIVAL: figures(with_options(caches[depth], factor, least), test),
        RIVAL_TREES: figures(with_options(caches[of_trees[0]], *of_trees[1:]), test, tree=True),
    }
    reference = table[BEST_RIVAL]["tokens_per_pass"]
    reliability = drafter.reliability
    return {
        "rows": len(test.outputs),
        "threshold": threshold,
        "threshold_of_trees": threshold_of_trees,
        "suffix_options": {"max_tree_depth": depth, "max_spec_factor": factor, "min_token_prob": least},
        "suffix_tree_options": dict(
            zip(("max_tree_depth", "max_spec_factor", "min_token_prob"), of_trees, strict=True)
        ),
        "calibration_error": None if reliability is None else reliability.error,
        "systems": {name: row | {"ratio": row["tokens_per_pass"] / reference} for name, row in table.items()},
    }


def _best_options(
    caches: dict[int, SuffixDecoding], rows: Rows, *, tree: bool
) -> tuple[tuple[int, float, float], float]:
    """SuffixDecoding's of the grid by tokens per pass: depth, factor and least probability; and what they draft per pass."""
    tried = {
        (depth, factor, least): figures(with_options(caches[depth], factor, least), rows, tree=tree)
        for depth, factor, least in GRID
    }
    best = max(tried, key=lambda options: tried[options]["tokens_per_pass"])
    return best, tried[best]["drafted_per_pass"]


def _threshold(drafter: Drafts, rows: Rows, most: float, **shape: Any) -> float:
    """The least probability, to some hundredths of itself, with which it drafts no more tokens per pass than `most`."""
    if figures(drafter, rows, 0.0, **shape)["drafted_per_pass"] <= most:
        return 0.0
    low, high = LEAST, 1.0
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        if figures(drafter, rows, middle, **shape)["drafted_per_pass"] <= most:
            high = middle
        else:
            low = middle
    return high


def tokens(names: list[str], _rounds: int) -> Iterator[tuple[str, Any]]:
    for name in names:
        yield name, tokens_of(corpus_of(name))


def timed(drafter: Drafts, rows: Rows, *, tree: bool) -> dict[str, float | None]:
    """Median microseconds on the way through the outputs: of a start, of any draft, of one of MAX_DRAFT tokens."""
    starts, times, full = [], [], []
    for prompt, output in zip(rows.prompts, rows.outputs, strict=True):
        begin = time.perf_counter()
        state = drafter.start(prompt)
        starts.append(time.perf_counter() - begin)
        place, new = 0, output[:1].tolist()
        while place + len(new) < len(output):
            state.extend(new)
            place += len(new)
            begin = time.perf_counter()
            draft = propose(state, MAX_DRAFT, MAX_DRAFT, tree=tree)
            seconds = time.perf_counter() - begin
            times.append(seconds)
            if len(draft.tokens) == MAX_DRAFT:
                full.append(seconds)
            left = output[place : place + MAX_DRAFT + 1].tolist()
            new = left[: len(accepted(draft.planned(MAX_DRAFT), left)) + 1]
    return {
        "start_us": 1e6 * statistics.median(starts),
        "propose_us": 1e6 * statistics.median(times),
        "full_us": 1e6 * statistics.median(full) if full else None,
        "full_share": len(full) / len(times),
    }


def of_batches(drafter: Drafts, rows: Rows) -> dict[str, float]:
    """Median milliseconds to take in a token of each of BATCH rows and draft for all, as a server does it.

    After 1 to 5 tokens of output. Of the processor (all threads together), which a machine with other work leaves as it is,
    and of the clock.
    """
    processor, clock = [], []
    for first in range(0, len(rows.outputs) - BATCH + 1, BATCH):
        outputs = rows.outputs[first : first + BATCH]
        states = [drafter.start(prompt) for prompt in rows.prompts[first : first + BATCH]]
        text = np.zeros((BATCH, 5), np.int32)
        for slot, output in enumerate(outputs):
            text[slot, : len(output)] = output[:5]
        for place in range(5):
            asked = [
                Asked(slot, state, min(place, len(output) - 1), min(place + 1, len(output) - 1), MAX_DRAFT)
                for slot, (state, output) in enumerate(zip(states, outputs, strict=True))
            ]
            begin, begin_processor = time.perf_counter(), time.process_time()
            propose_each(asked, text, 0.0)
            processor.append(time.process_time() - begin_processor)
            clock.append(time.perf_counter() - begin)
    return {"batch_ms": 1e3 * statistics.median(processor), "batch_clock_ms": 1e3 * statistics.median(clock)}


def long_prompts(rows: Rows) -> Rows:
    """The same outputs after prompts of LONG_PROMPT tokens: other rows' prompts come first."""
    flat = np.concatenate(rows.prompts)
    stream = np.tile(flat, 2 + LONG_PROMPT // len(flat))
    found = []
    for number, prompt in enumerate(rows.prompts):
        front = (number * 37) % len(flat)
        own = prompt[-LONG_PROMPT:]
        found.append(np.concatenate([stream[front : front + LONG_PROMPT - len(own)], own]))
    return Rows(found, rows.outputs)


def speed_of(corpus: Corpus, rounds: int, chosen: dict[str, Any] | None) -> dict[str, Any]:
    options = chosen or {"max_tree_depth": 64, "max_spec_factor": 4.0, "min_token_prob": 0.0}
    drafter = corpus.drafter()
    best = with_options(corpus.suffix(options["max_tree_depth"]), options["max_spec_factor"], options["min_token_prob"])
    systems: dict[str, Drafts] = {
        OURS: drafter,
        TREES: drafter,
        "paper": PaperDrafter(drafter.index),
        "SuffixDecoding, vLLM's defaults": corpus.suffix(24),
        BEST_RIVAL: best,
        "prompt lookup": PromptLookup(eos_id=corpus.eos_id, max_ngram=3),
    }
    n = int(np.searchsorted(np.cumsum([len(output) for output in corpus.test.outputs]), TIMED_TOKENS)) + 1
    inputs = {"": corpus.test, f" after {LONG_PROMPT}-token prompts": long_prompts(corpus.test)}
    found: dict[str, dict[str, list[float | None]]] = {}
    for turn in range(rounds + 1):  # the first one warms up
        for (name, system), (suffix, rows) in product(systems.items(), inputs.items()):
            first = Rows(rows.prompts[:n], rows.outputs[:n])
            measured = timed(system, first, tree=name == TREES)
            if name != TREES:
                measured |= of_batches(system, rows)
            if turn:
                for key, value in measured.items():
                    found.setdefault(name + suffix, {}).setdefault(key, []).append(value)
    return {
        "tokens": corpus.n_tokens,
        "median_prompt": statistics.median(map(len, corpus.test.prompts)),
        "systems": {name: {key: spread(values) for key, values in row.items()} for name, row in found.items()},
    }


def speed(names: list[str], rounds: int) -> Iterator[tuple[str, Any]]:
    chosen = stored().get("tokens", {})
    for name in names:
        yield name, speed_of(corpus_of(name), rounds, chosen.get(name, {}).get("suffix_options"))


FRESH = """
import sys, time
begin = time.perf_counter()
import numpy
from tasc.draft import Drafter
imported, imported_cpu = time.perf_counter(), time.process_time()
drafter = Drafter.load(sys.argv[1])
loaded = time.perf_counter()
state = drafter.start([int(word) for word in sys.argv[2].split(",")])
state.extend([int(sys.argv[3])])
state.propose(10)
drafted = time.perf_counter()
print(imported - begin, loaded - imported, drafted - loaded, imported_cpu, time.process_time() - imported_cpu)
"""


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of the processor: all of this computes on one thread, and other processes share the machine."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def size_of(corpus: Corpus, rounds: int) -> dict[str, Any]:
    drafter = corpus.drafter()
    lengths = corpus.train.lengths

    def prompts() -> None:
        Neighbours.build(corpus.train_prompts, lengths=lengths)
        sample.choose(corpus.train, corpus.train_prompts)

    work: dict[str, Callable[[], Any]] = {
        "index": lambda: Index.build(corpus.train, start_id=corpus.vocab_size, eos_id=corpus.eos_id),
        "prompts": prompts,
        "all": corpus.drafter,
        "arctic_24": lambda: corpus.suffix(24),
        "arctic_64": lambda: corpus.suffix(64),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    fresh: dict[str, list[float]] = {
        name: [] for name in ("import", "load", "first_draft", "import_cpu", "load_and_draft_cpu")
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.tasc"
        drafter.save(path)
        prompt, output = corpus.test.prompts[0], corpus.test.outputs[0]
        command = [sys.executable, "-c", FRESH, str(path), ",".join(map(str, prompt.tolist())) or "0", str(output[0])]
        for _ in range(rounds):  # in turns
            for name, build in work.items():
                times[name].append(seconds_of(build))
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for name, value in zip(fresh, done.stdout.split(), strict=True):
                fresh[name].append(float(value))
        n_bytes = path.stat().st_size
    index_and_prompts = [a + b for a, b in zip(times["index"], times["prompts"], strict=True)]
    return {
        "tokens": corpus.n_tokens,
        "bytes_per_token": n_bytes / corpus.n_tokens,
        "index_bytes_per_token": 4 * 2 * len(drafter.index.tokens) / corpus.n_tokens,
        "seconds": {name: spread(values) for name, values in times.items()}
        | {"index_and_prompts": spread(index_and_prompts)},
        "fresh_process": {name: spread(values) for name, values in fresh.items()},
    }


def size(names: list[str], rounds: int) -> Iterator[tuple[str, Any]]:
    for name in names:
        yield name, size_of(corpus_of(name), rounds)


SHARING = """
import json, sys, time
import numpy as np
from tasc.draft import Drafter
begin = time.perf_counter()
drafter = Drafter.load(sys.argv[1])
loaded = time.perf_counter() - begin
outputs = drafter.index.outputs()
for row in np.random.default_rng(int(sys.argv[2])).permutation(len(outputs))[:200]:
    state = drafter.start([])
    for token in outputs[int(row)][:20]:
        state.propose(10)
        state.extend([int(token)])
del outputs
print(flush=True)
sys.stdin.readline()  # until the other process is here as well
found, inside = {}, False
for line in open("/proc/self/smaps"):
    words = line.split()
    if "-" in words[0] and not words[0].endswith(":"):
        inside = line.rstrip().endswith(sys.argv[1])
    elif inside and words[0] in ("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"):
        found[words[0][:-1]] = found.get(words[0][:-1], 0) + int(words[1])
print(json.dumps({"load_s": loaded} | {name: kib / 1024 for name, kib in found.items()}), flush=True)
sys.stdin.readline()
"""


def shared(names: list[str], _rounds: int) -> Iterator[tuple[str, Any]]:
    """Two processes with one file of 100M tokens: a corpus again and again, one token in twenty another."""
    corpus = corpus_of(names[-1])
    rng, copies = np.random.default_rng(0), -(-LARGE // corpus.n_tokens)
    tokens = np.tile(corpus.train.tokens, copies)
    changed = rng.random(len(tokens), np.float32) < 0.05
    tokens[changed] = rng.choice(corpus.train.tokens, int(changed.sum()))
    lengths = np.tile(corpus.train.lengths, copies)
    outputs = TokenCorpus(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.tasc"
        begin = time.process_time()
        drafter = Drafter.build(outputs, eos_id=corpus.eos_id, vocab_size=corpus.vocab_size)
        seconds = time.process_time() - begin
        n_tokens = int((drafter.index.tokens < drafter.vocab_size).sum())
        drafter.save(path)
        del drafter, outputs, tokens
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", SHARING, str(path), str(seed)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for seed in (1, 2)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        found = []
        for process in processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(json.loads(process.stdout.readline()))
        for process in processes:
            process.communicate()
        mib = path.stat().st_size / 2**20
    yield corpus.name, {"tokens": n_tokens, "build_seconds": seconds, "file_mib": mib, "processes_mib": found}


def spread(values: list[Any]) -> list[float] | None:
    """Median, least and most; None where nothing was measured."""
    return None if None in values else [statistics.median(values), min(values), max(values)]


def stored() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


PARTS: dict[str, Callable[[list[str], int], Iterator[tuple[str, Any]]]] = {
    "tokens": tokens,
    "speed": speed,
    "size": size,
    "shared": shared,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for part in args.parts:
        for corpus, found in PARTS[part](args.corpora, args.rounds):
            found |= {"rounds": args.rounds, "load_average": os.getloadavg()[0]} | commit_and_date()
            print(json.dumps({"part": part, "corpus": corpus, **found}), flush=True)
            results = stored()
            results.setdefault(part, {})[corpus] = found
            write_json(RESULTS, results)
    with atomic_write(PAGE, "w") as file:
        file.write(page(stored()))


if __name__ == "__main__":
    main()
