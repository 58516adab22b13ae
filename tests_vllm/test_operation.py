"""A server with drafts under stress: little memory for keys and values, long load, a killed engine, wrong input."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest

from serving import BOTH, CLI, SERVED, Server

SOAK_SECONDS = float(os.environ.get("TASC_SOAK_SECONDS", "300"))


@BOTH
def test_preempted_requests_go_on_as_they_were(servers, models, prompts, tmp_path, name):
    # keys and values of 768 tokens for 32 requests; no pass reads more than 64 tokens, so long prompts are split
    options = ["--block-size", "32", "--num-gpu-blocks-override", "24", "--max-num-batched-tokens", "64"]
    asked = dict(max_tokens=80, extra_body={"ignore_eos": True})
    long = ["".join(prompts[k : k + 12]) for k in range(200, 392, 12)]
    some, plain = [*long, *prompts[:80]], servers[f"plain {name}"]
    expected = plain.texts(some, 32, **asked)
    server = Server(models, name, tmp_path / "log", options=options).start()
    try:
        server.wait()
        done = server.complete(some, 32, **asked)
        assert min(one.usage.prompt_tokens for one in done[: len(long)]) > 64
        plain.require_same(some, [one.choices[0].text for one in done], expected, **asked)
        metrics = server.metrics()
        assert metrics["vllm:num_preemptions_total"] > 0
        assert metrics["tasc:accepted_tokens_total"] > 0
    finally:
        server.stop()


def test_two_tensor_parallel_ranks_draft_alike_and_one_of_them_counts(models, prompts, tmp_path, servers):
    expected = servers["plain enriched"].texts(prompts[:60])
    alone = counted(servers["drafts enriched"], prompts[:60], expected, servers)
    server = Server(
        models, "enriched", tmp_path / "log", options=["--tensor-parallel-size", "2"],
        environment={"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    ).start()  # fmt: skip
    try:
        server.wait()
        together = counted(server, prompts[:60], expected, servers)
    finally:
        server.stop()
    assert 0 < together["tasc:drafted_tokens_total"] == together["vllm:spec_decode_num_draft_tokens_total"]
    assert 0.5 < together["tasc:passes_total"] / alone["tasc:passes_total"] < 1.5


def counted(server, prompts, expected, servers):
    """What its counters gained by these prompts, one at a time, whose outputs must be the expected ones."""
    before = server.metrics()
    servers["plain enriched"].require_same(prompts, server.texts(prompts, 1), expected)
    return {name: value - before.get(name, 0) for name, value in server.metrics().items()}


def test_every_adapter_has_its_own_drafter(models, prompts, tmp_path):
    adapters = {name: make_adapter(models.model("base"), tmp_path / name, seed) for seed, name in enumerate("ab")}
    lora = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", *(f"{n}={path}" for n, path in adapters.items())]
    drafter = models.drafter("base")
    plain = Server(models, "base", tmp_path / "plain.log", drafts=False, options=lora).start()
    table = ["--drafter", f"a={drafter}", "--drafter", f"{SERVED}={drafter}"]
    drafts = Server(models, "base", tmp_path / "drafts.log", options=[*table, *lora]).start()
    try:
        plain.wait()
        drafts.wait()
        for name in ("a", "b", SERVED):
            before = drafts.metrics()
            expected = plain.texts(prompts[:60], 8, model=name)
            plain.require_same(prompts[:60], drafts.texts(prompts[:60], 8, model=name), expected, model=name)
            gained = drafts.metrics().get("tasc:drafted_tokens_total", 0) - before.get("tasc:drafted_tokens_total", 0)
            assert (gained > 0) == (name != "b")
    finally:
        plain.stop()
        drafts.stop()


def make_adapter(model: Path, folder: Path, seed: int) -> Path:
    """A LoRA adapter that changes some outputs."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    for parameter_name, parameter in adapted.named_parameters():
        if "lora_B" in parameter_name:
            parameter.data.mul_(0.1)
    adapted.save_pretrained(folder)
    return folder


def test_vllms_own_benchmark_client_is_served(servers, models, tmp_path):
    server = servers["drafts base"]
    command = [
        sys.executable, "-c", CLI, "bench", "serve", "--backend", "openai", "--base-url", f"http://127.0.0.1:{server.port}",
        "--endpoint", "/v1/completions", "--model", SERVED, "--tokenizer", str(models.model("base")), "--dataset-name",
        "random", "--random-input-len", "20", "--random-output-len", "20", "--num-prompts", "40", "--max-concurrency", "8",
        "--save-result", "--result-dir", str(tmp_path), "--result-filename", "result.json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "result.json").read_text())["completed"] == 40


def test_long_load_with_aborts_neither_fails_nor_grows(servers, prompts):
    """32 clients; after a warm-up of a third of the time the server's processes may grow by 3%, the allocator's noise."""
    server, rng = servers["drafts enriched"], random.Random(0)
    limits = (4, 16, 48, 120)
    expected = {n: servers["plain enriched"].texts(prompts[:160], 32, max_tokens=n) for n in limits}
    end = time.monotonic() + SOAK_SECONDS
    done, memory, wrong = [0], [], {}

    async def one_client(client):
        while time.monotonic() < end:
            n, row = rng.choice(limits), rng.randrange(160)
            options = dict(model=SERVED, max_tokens=n, temperature=0, stream=True)
            events = await client.completions.create(prompt=prompts[row], **options)
            leave_after = rng.randrange(1, 6) if rng.random() < 0.2 else 10**6
            pieces = []
            async for event in events:
                pieces.append(event.choices[0].text)
                if len(pieces) >= leave_after:
                    break
            await events.close()
            if len(pieces) < leave_after and "".join(pieces) != expected[n][row]:
                wrong[n, row] = "".join(pieces)
            done[0] += 1

    async def watch():
        while time.monotonic() < end:
            memory.append((time.monotonic(), sum(server.resident().values())))
            await asyncio.sleep(SOAK_SECONDS / 60)

    async def all_of_them():
        async with server.client() as client:
            await asyncio.gather(watch(), *(one_client(client) for _ in range(32)))

    asyncio.run(all_of_them())
    assert done[0] > 100
    for (n, row), text in wrong.items():
        servers["plain enriched"].require_same(
            prompts[:160], [*expected[n][:row], text, *expected[n][row + 1 :]], expected[n], max_tokens=n
        )
    warm = [used for at, used in memory if at > end - SOAK_SECONDS * 2 / 3]
    assert max(warm[-8:]) < 1.03 * max(warm[:8])
    assert server.metrics()["vllm:num_requests_running"] == 0


@pytest.fixture(scope="module")
def remembering(models, tmp_path_factory):
    """A server that drafts from its earlier outputs as well."""
    log = tmp_path_factory.mktemp("remembering") / "log"
    server = Server(models, "enriched", log, options=["--memory-tokens", "65536"]).start()
    try:
        yield server.wait()
    finally:
        server.stop()


def test_earlier_outputs_are_drafted_from_and_change_none(remembering, servers, prompts):
    # word by word from the end: answers that the corpus does not foresee
    some = [" ".join(reversed(prompt.split())) + "\n" for prompt in prompts[-60:]]
    expected = servers["plain enriched"].texts(some)
    first, second = (counted(remembering, some, expected, servers) for _ in range(2))
    assert second["tasc:accepted_tokens_total"] > first["tasc:accepted_tokens_total"] > 0
    # 0.6 times as many; without a memory, with weights that adapt, 0.97
    assert second["tasc:passes_total"] < 0.8 * first["tasc:passes_total"]
    assert re.search(r'^tasc:accepted_tokens_total\{.*source="memory"', remembering.metrics_page(), re.MULTILINE)


def test_a_killed_engine_ends_streams_and_server_and_it_starts_again(remembering, servers, prompts):
    server, plain = remembering, servers["plain enriched"]
    expected = plain.texts(prompts[:20])
    plain.require_same(prompts[:20], server.texts(prompts[:20]), expected)
    reasons = asyncio.run(kill_amid_streams(server, prompts[:8]))
    assert len(reasons) == 8
    assert "length" not in reasons
    server.process.wait(60)  # vLLM's exit code is 0 here
    end = time.monotonic() + 60
    while any(server.resident().values()) and time.monotonic() < end:
        time.sleep(0.2)
    # one that has ended and that nobody waited for holds no pages
    assert not any(server.resident().values())
    assert not server.healthy()
    assert "EngineDeadError" in server.log.read_text()
    server.start().wait()
    plain.require_same(prompts[:20], server.texts(prompts[:20]), expected)


async def kill_amid_streams(server, prompts):
    """Kill the engine once all of these streams have begun; the reason that each gave for its end, None if it gave none.

    Raises:
        TimeoutError: a stream goes on for a minute without its engine.
    """
    # at this temperature drafts are hardly taken, so no stream is near its end when the last begins
    options = dict(model=SERVED, max_tokens=400, temperature=2, stream=True, extra_body={"ignore_eos": True})
    begun, all_begun = set(), asyncio.Event()

    async def read(prompt, client):
        reason = None
        try:
            async for event in await client.completions.create(prompt=prompt, **options):
                begun.add(prompt)
                if len(begun) == len(prompts):
                    all_begun.set()
                reason = event.choices[0].finish_reason
        except (openai.APIError, httpx.HTTPError):
            assert prompt in begun
        return reason

    async with server.client() as client:
        streams = [asyncio.create_task(read(prompt, client)) for prompt in prompts]
        await asyncio.wait_for(all_begun.wait(), 60)
        os.kill(server.engine_pid(), signal.SIGKILL)
        return await asyncio.wait_for(asyncio.gather(*streams), 60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drafter", "{tmp}/none.tasc"], "none.tasc; build one with 'tasc draft build'"),
        (["--drafter", "{tmp}/cut.tasc"], "cut.tasc.*'tasc draft build'"),
        (
            ["--drafter", "{enriched}"],
            "enriched.tasc was built with the n-grams of an enriched model, the model has none",
        ),
        (["--drafter", "other={base}"], "drafter for 'other', but served are"),
        (
            ["--drafter", "{base}", "--memory-tokens", "99999999"],
            "memory_tokens must be from 0 to 16777216, got 99999999",
        ),
        (["--drafter", "{base}", "--max-draft", "1000"], "'--max-draft'.*64"),
        (["--drafter", "{base}", "--speculative-config", "{{}}"], "contradicts --drafter"),
        (["--drafter", "{base}", "--cost", "{tmp}/run.json"], "not a step-cost file; write one with 'tasc profile'"),
    ],
)
def test_wrong_input_is_refused_at_start_in_one_line(models, tmp_path, arguments, message):
    whole = models.drafter("base").read_bytes()
    (tmp_path / "cut.tasc").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "run.json").write_text("{}")
    names = {"tmp": tmp_path, "base": models.drafter("base"), "enriched": models.drafter("enriched")}
    words = [word.format(**names) for word in arguments]
    command = [sys.executable, "-m", "tasc", "serve", str(models.model("base")), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.search(message, line), done.stderr
