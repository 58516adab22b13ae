"""Set-up of all tests: no network, one thread per library, the folder of real data."""

import os

# before any test module imports torch, transformers or numba
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tasc", deadline=None)  # the first example of a test may compile a kernel
settings.load_profile("tasc")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium; tests that ask for it are skipped where there is none."""
    from chromium import Chromium  # no test but these needs it

    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real corpora (`data/`) and tokenizers (`tokenizers/`): `TASC_SHARED`, or `shared` beside the checkout."""
    folder = Path(os.environ.get("TASC_SHARED") or ROOT.parent / "shared").resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"real data needed: no folder {folder / 'data'}; set TASC_SHARED")
    return folder
