"""Where compiled kernels are kept: numba's own choice of folders, and none at all."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

from tasc._numba import interrupts_wait, njit

KERNEL = """
from tasc._numba import njit

@njit
def double(x):
    return 2 * x

print(double(21), len(double.stats.cache_hits), len(double.stats.cache_misses), double.stats.cache_path)
"""


def run_kernel(folder: Path, **env: str) -> list[str]:
    """Runs the kernel from `folder`; returns result, cache hits, cache misses and the cache's folder."""
    source = folder / "kernel.py"
    if not source.exists():
        source.write_text(KERNEL)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | env
    result = subprocess.run(
        [sys.executable, "-B", str(source)], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder whose `__pycache__` cannot be made; unlike mode bits, a file in its place stops root too."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__pycache__").touch()
    return folder


def test_kernels_are_kept_beside_the_source_and_found_again(tmp_path):
    assert run_kernel(tmp_path) == ["42", "0", "1", str(tmp_path / "__pycache__")]
    assert run_kernel(tmp_path) == ["42", "1", "0", str(tmp_path / "__pycache__")]


def test_code_of_other_kernels_has_another_name(tmp_path):
    run_kernel(tmp_path)
    (before,) = (tmp_path / "__pycache__").glob("*.nbc")
    (tmp_path / "_other.py").write_text("CALLED = 1")
    assert run_kernel(tmp_path)[1:3] == ["0", "1"]
    (after,) = set((tmp_path / "__pycache__").glob("*.nbc")) - {before}
    assert numba.__version__ in after.name
    assert run_kernel(tmp_path)[1:3] == ["1", "0"]


def test_kernels_go_to_the_user_s_cache_folder_where_the_package_is_read_only(sealed, tmp_path):
    cache = tmp_path / "cache"
    result, hits, misses, folder = run_kernel(sealed, XDG_CACHE_HOME=str(cache))
    assert (result, hits, misses) == ("42", "0", "1")
    assert Path(folder).parent == cache / "numba"
    assert list(Path(folder).glob("*.nbi"))
    assert run_kernel(sealed, XDG_CACHE_HOME=str(cache))[:3] == ["42", "1", "0"]


def test_kernels_work_where_no_folder_can_be_written_to(sealed):
    nowhere = str(sealed / "__pycache__" / "nowhere")  # below a file: nobody can make it
    assert run_kernel(sealed, XDG_CACHE_HOME=nowhere, HOME=nowhere) == ["42", "0", "1", "None"]


def test_a_kernel_is_renewed_when_one_that_it_calls_changes(tmp_path):
    callee = tmp_path / "_callee.py"
    callee.write_text("from tasc._numba import njit\n\n@njit\ndef twice(x):\n    return 2 * x\n")
    caller = KERNEL.replace("import njit", "import njit\nfrom _callee import twice").replace("2 * x", "twice(x)")
    (tmp_path / "kernel.py").write_text(caller)
    assert run_kernel(tmp_path)[:3] == ["42", "0", "1"]
    assert run_kernel(tmp_path)[:3] == ["42", "1", "0"]
    callee.write_text(callee.read_text().replace("2 * x", "3 * x"))
    assert run_kernel(tmp_path)[:3] == ["63", "0", "1"]


def test_a_kernel_is_renewed_when_its_file_keeps_time_and_size(tmp_path):
    assert run_kernel(tmp_path)[0] == "42"
    source = tmp_path / "kernel.py"
    before = source.stat()
    source.write_text(KERNEL.replace("2 * x", "3 * x"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run_kernel(tmp_path)[0] == "63"


def test_without_jit_the_kernel_is_the_plain_function(tmp_path):
    source = tmp_path / "plain.py"
    source.write_text("from tasc._numba import njit\n\n@njit\ndef f(x):\n    return x\n\nprint(type(f).__name__)\n")
    result = subprocess.run(
        [sys.executable, str(source)],
        capture_output=True,
        text=True,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        check=True,
    )
    assert result.stdout == "function\n"


def test_the_decorator_takes_numba_s_options():
    @njit(cache=False, boundscheck=True)
    def first(x):
        return x[0]

    assert first(np.array([3, 4])) == 3
    with pytest.raises(IndexError):
        first(np.zeros(0))


def test_other_refusals_of_numba_are_not_hidden():
    with pytest.raises(TypeError):
        njit("not a function", cache=False)  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.fixture
def interruptible():
    """Ctrl-C as a program in the foreground has it; one that a script started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_waits_for_the_end_of_the_block():
    reached = []

    def interrupted():
        with interrupts_wait():
            signal.raise_signal(signal.SIGINT)
            reached.append("the block's end")
        reached.append("what follows")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["the block's end"]
    with pytest.raises(KeyboardInterrupt):  # as before
        signal.raise_signal(signal.SIGINT)


def test_other_threads_leave_the_signal_alone():
    def work():
        with interrupts_wait():
            return 1

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == 1
