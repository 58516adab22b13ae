"""Servers on vLLM's CPU build, each started once: plain and with drafts, of the demo's model and of the enriched one."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Models, Server, make_models, real_prompts

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def models() -> Models:
    """The demo's two models and their drafters, trained once and kept."""
    return make_models(ROOT / ".work" / "tests_vllm")


@pytest.fixture(scope="session")
def prompts(models: Models) -> list[str]:
    """750 prompts: 250 test rows of the demo, then 500 of people to a voice assistant where the real data is there."""
    folder = Path(os.environ.get("TASC_SHARED") or ROOT.parent / "shared")
    return real_prompts(models, folder)


@pytest.fixture(scope="session")
def servers(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """`plain base`, `drafts base`, `plain enriched`, `drafts enriched`; they start side by side."""
    folder = tmp_path_factory.mktemp("servers")
    found = {
        f"{kind} {name}": Server(models, name, folder / f"{kind}-{name}.log", drafts=kind == "drafts")
        for name in ("base", "enriched")
        for kind in ("plain", "drafts")
    }
    try:
        for server in found.values():
            server.start()
        for server in found.values():
            server.wait()
        yield found
    finally:
        for server in found.values():
            server.stop()
