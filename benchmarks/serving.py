"""Serving on vLLM: TASC against plain vLLM and vLLM's own drafters, in one run, the systems in turns.

    make venv-vllm
    .venv-vllm/bin/python benchmarks/serving.py [--corpora massive_en eurlex57k_short medquad] [--rounds 3] [--share 1.0]
                                                [--stage train|measure|all] [--work .work/serving]

`train` trains the models of the TASC benchmarks (base, and with 500 n-grams) with a share of their presets' steps and builds
the drafters. `measure` starts one OpenAI server per system, all at once, serves each the same validation prompts to warm up
(SuffixDecoding learns from them, ours does not), and then sends the same test prompts to each in turn, at 1, 8 and 32
requests at a time; no prompt comes twice, and every round begins with another system. Every output with drafts is compared
with that of the same model without. Writes
benchmarks/results/serving.json and docs/results/serving.md. SuffixDecoding needs arctic-inference==0.1.1 in that environment.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp  # pyright: ignore[reportMissingImports] (vLLM brings it)
from _commit import commit_and_date
from _models import PRESETS, shared_split
from _serving_models import BUDGET, Served, make
from _serving_page import write_page

from tasc.corpus import load_tokenizer, make_template
from tasc.files import read_json, write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
CONCURRENCY = (1, 8, 32)
# requests of a measurement at each concurrency, most ids of an output, requests to warm up
SCALE = {
    "massive_en": ((60, 300, 600), 64, 200),
    "eurlex57k_short": ((60, 300, 600), 64, 200),
    "medquad": ((48, 96, 288), 256, 32),
}
START_SECONDS = 600
MAX_DRAFT = 24  # as SuffixDecoding has
PLAIN = {"base": "plain vLLM", "ft": "TASC-ft"}  # the system that decodes a model without drafts


@dataclass
class System:
    """A server to measure.

    Attributes:
        name: in the table.
        model: "base" or "ft".
        command: that starts it, without the port.
    """

    name: str
    model: str
    command: list[str]
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    found: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def start(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = os.environ | {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "OMP_NUM_THREADS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
        }
        environment["VLLM_PLUGINS"] = ""  # arctic-inference's own plug-in is for older releases
        # lets the CPU build have engine and worker in one process; two wait for each other by spinning, on two cores for long
        environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*self.command, "--port", str(self.port)],
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )

    def wait(self, log: Path) -> None:
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{self.name} did not start: {log.read_text()[-2000:]}") from None
                time.sleep(1)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)

    def counters(self) -> dict[str, float]:
        """vLLM's counts of drafts so far, and the seconds that TASC's took."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        names = {
            "drafts": "spec_decode_num_drafts_total{",
            "drafted": "spec_decode_num_draft_tokens_total{",
            "accepted": "spec_decode_num_accepted_tokens_total{",
            "seconds": "tasc:draft_seconds_total",
        }
        return {
            name: sum(float(line.rpartition(" ")[2]) for line in lines if text in line) for name, text in names.items()
        }

    async def serve(self, prompts: Sequence[list[int]], concurrency: int, limit: int) -> dict[str, Any]:
        """Send all prompts, so many at a time."""
        gate = asyncio.Semaphore(concurrency)
        url = f"http://127.0.0.1:{self.port}/v1/completions"
        async with aiohttp.ClientSession() as session:

            async def one(ids: list[int]) -> tuple[float, int, str]:
                body = {"model": "task", "prompt": ids, "max_tokens": limit, "temperature": 0}
                async with gate:
                    begin = time.perf_counter()
                    async with session.post(url, json=body) as answer:
                        done = await answer.json()
                    seconds = time.perf_counter() - begin
                return seconds, done["usage"]["completion_tokens"], done["choices"][0]["text"]

            begin = time.perf_counter()
            done = await asyncio.gather(*map(one, prompts))
            seconds = time.perf_counter() - begin
        return {
            "seconds": seconds,
            "requests_per_s": len(done) / seconds,
            "tokens_per_s": sum(n for _, n, _ in done) / seconds,
            "bytes_per_s": sum(len(text.encode()) for _, _, text in done) / seconds,
            "ms_per_request": 1000 * median(taken for taken, _, _ in done),
            "ms_per_token": 1000 * median(taken / n for taken, n, _ in done),  # reading the prompt included
            "tokens": sum(n for _, n, _ in done),
            "texts": [text for _, _, text in done],
        }


def systems(served: Served) -> list[System]:
    """All that are compared, plain vLLM first."""
    options = [
        "--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "1024", "--enforce-eager", "--max-num-seqs", "32",
        "--served-model-name", "task", "--no-enable-log-requests", "--distributed-executor-backend", "uni",
    ]  # fmt: skip

    def plain(model: str, **speculative: Any) -> list[str]:
        drafts = ["--speculative-config", json.dumps(speculative)] if speculative else []
        server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(served.models[model])]
        return [*server, *options, *drafts]

    def tasc(model: str, *more: str) -> list[str]:
        drafts = [
            "--drafter",
            str(served.drafter(model)),
            "--cost",
            str(served.cost(model)),
            "--max-draft",
            str(MAX_DRAFT),
        ]
        return [sys.executable, "-m", "tasc", "serve", str(served.models[model]), *drafts, *more, *options]

    ngram = {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 2}
    suffix = {"method": "suffix", "num_speculative_tokens": 24}
    memory = ("--memory-tokens", "1000000")
    return [
        System("plain vLLM", "base", plain("base")),
        System("vLLM ngram", "base", plain("base", **ngram)),
        System("vLLM suffix (arctic-inference)", "base", plain("base", **suffix)),
        System("TASC-spec", "base", tasc("base")),
        System("TASC-spec, learning", "base", tasc("base", *memory)),
        System("TASC-ft", "ft", plain("ft")),
        System("both", "ft", tasc("ft")),
        System("both, learning", "ft", tasc("ft", *memory)),
    ]


def measure(served: Served, rounds: int, notes: Sequence[str]) -> dict[str, Any]:
    """All figures of a corpus, ready for JSON; the page says the notes beside them."""
    counts, limit, n_warm = SCALE[served.corpus]
    warm, test = (prompts_of(served, split, n) for split, n in (("validation", n_warm), ("test", rounds * sum(counts))))
    for model, folder in served.models.items():
        if not served.cost(model).exists():
            profile(folder, served.cost(model))
    found = systems(served)
    load = [os.getloadavg()[0]]
    logs = {system.name: served.folder / f"server-{place}.log" for place, system in enumerate(found)}
    try:
        for system in found:  # one after the other: starting is what takes the machine's time
            system.start(logs[system.name])
            system.wait(logs[system.name])
        for system in found:
            asyncio.run(system.serve(warm, 8, limit))
        for concurrency, n in zip(CONCURRENCY, counts, strict=True):
            for round_ in range(rounds):
                rows, test = test[:n], test[n:]
                print(f"  {served.corpus} at {concurrency}, round {round_ + 1}", flush=True)
                one_round(found, rows, concurrency, limit, first=round_)
    finally:
        for system in found:
            system.stop()
    load.append(os.getloadavg()[0])
    return {
        "machine": {
            "cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
            "vllm": version("vllm-cpu"), "arctic_inference": version("arctic-inference"), "load_before_and_after": load,
            **commit_and_date(),
        },
        "models": {"share_of_the_presets_steps": read_json(served.share_file), "ngrams": BUDGET},
        "requests": dict(zip(map(str, CONCURRENCY), counts, strict=True)), "warm_up": n_warm, "max_tokens": limit,
        "rounds": rounds, "notes": list(notes),
        "systems": [
            {"system": s.name, "model": s.model, "command": named(s.command, served.folder), "at": {str(c): r for c, r in s.found.items()}}
            for s in found
        ],
    }  # fmt: skip


def one_round(found: Sequence[System], rows: Sequence[list[int]], concurrency: int, limit: int, *, first: int) -> None:
    """Each system in turn on the same rows, beginning with the `first`."""
    first %= len(found)
    texts: dict[str, list[str]] = {}
    for system in [*found[first:], *found[:first]]:
        one = measured(system, rows, concurrency, limit)
        texts[system.name] = one.pop("texts")
        system.found.setdefault(concurrency, []).append(one)
        print(f"    {system.name}: {one['requests_per_s']:.1f} requests/s", flush=True)
    for system in found:
        expected = texts[PLAIN[system.model]]
        different = sum(a != b for a, b in zip(expected, texts[system.name], strict=True))
        system.found[concurrency][-1]["different"] = different


def named(command: Sequence[str], models: Path) -> str:
    """A command without this machine's folders; `models` may lie anywhere."""
    words = " ".join(command).replace(str(models), f"./.work/serving/{models.name}")
    return words.replace(str(ROOT), ".").replace(sys.executable, "python")


def measured(system: System, prompts: Sequence[list[int]], concurrency: int, limit: int) -> dict[str, Any]:
    """One measurement, with what drafts did meanwhile."""
    before = system.counters()
    one = asyncio.run(system.serve(prompts, concurrency, limit))
    after = system.counters()
    gained = {name: after[name] - before[name] for name in after}
    return one | {
        "acceptance": gained["accepted"] / gained["drafted"] if gained["drafted"] else None,
        # of passes that had a draft; vLLM counts tokens accepted behind an end too
        "tokens_per_drafted_pass": 1 + gained["accepted"] / gained["drafts"] if gained["drafts"] else None,
        "share_of_drafting": gained["seconds"] / one["seconds"] if gained["seconds"] else None,
    }


def prompts_of(served: Served, split: str, n: int) -> list[list[int]]:
    """Ids of the first prompts of a split, as the models were trained on them."""
    tasks = shared_split(served.corpus, split, PRESETS[served.corpus])
    template = make_template(load_tokenizer(served.models["base"]), "plain")
    return [ids[-512:] for ids in template.encode_prompts(tasks.rows[:n])]


def profile(model: Path, out: Path) -> None:
    """What a step costs in vLLM, in a process of its own."""
    command = [sys.executable, "-m", "tasc", "profile", "--engine", "vllm", "--model", str(model), "--dtype", "float32"]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    subprocess.run([*command, "--contexts", "64", "-o", str(out)], check=True, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=list(SCALE), choices=list(SCALE))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the presets' training steps")
    parser.add_argument("--stage", choices=["train", "measure", "all", "page"], default="all")
    parser.add_argument("--work", type=Path, default=ROOT / ".work" / "serving")
    parser.add_argument("--note", action="append", default=[], help="what a reader of these figures should know")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no server is left running
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for corpus in [] if args.stage == "page" else args.corpora:
        served = Served(corpus, args.work.resolve() / corpus)
        if args.stage in ("train", "all"):
            make(served, args.share)
        if args.stage in ("measure", "all"):
            results[corpus] = measure(served, args.rounds, args.note)
            write_json(RESULTS, results)
    if args.stage != "train":
        write_page({corpus: results[corpus] for corpus in SCALE if corpus in results}, ROOT / "docs" / "results")


if __name__ == "__main__":
    sys.exit(main())
