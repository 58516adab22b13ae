"""`import tasc`: light, lazy, and what it says it exports."""

import pkgutil
import subprocess
import sys
import types

import pytest

import tasc

HEAVY = {"torch", "transformers", "tokenizers", "datasets", "peft", "numpy", "numba", "scipy", "rich", "typer"}
ENGINES = {"torch", "vllm", "ray"}


def modules_after(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import tasc")
    assert "tasc" in loaded
    assert loaded & HEAVY == set()


def test_errors_come_without_anything_heavy():
    assert modules_after("import tasc; tasc.TascError, tasc.__version__") & HEAVY == set()


@pytest.mark.parametrize("room", ["analysis", "corpus", "evals", "report", "vocab"])
def test_rooms_that_work_on_ids_load_no_engine(room):
    package = __import__(f"tasc.{room}", fromlist=["__path__"])
    names = [f"tasc.{room}", *(f"tasc.{room}.{module.name}" for module in pkgutil.iter_modules(package.__path__))]
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert set(names) <= loaded
    assert loaded & ENGINES == set()


def test_every_lazy_name_is_public_and_every_public_name_is_lazy():
    assert sorted(tasc.__all__) == list(tasc.__all__)
    assert {*tasc._ROOMS, "__version__"} == set(tasc.__all__)
    assert set(tasc.__all__) <= set(dir(tasc))


@pytest.mark.parametrize("name", tasc.__all__)
def test_a_public_name_is_its_room_s(name):
    value = getattr(tasc, name)
    if name in tasc._ROOMS:
        assert value is getattr(sys.modules[tasc._ROOMS[name]], name)
        assert not isinstance(value, types.ModuleType)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'tasc' has no attribute 'finetuen'"):
        tasc.finetuen  # noqa: B018
