"""The lookup caches of `tasc export` at work in llama.cpp: passes with and without them, the same outputs.

    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36 && tar xzf llama_cpp_python-0.3.36.tar.gz
    python benchmarks/llama_lookup.py --llama-cpp llama_cpp_python-0.3.36 [--work .work/serving] [--corpora massive_en] [--rows 150]

Builds llama.cpp's own `llama-lookup` (ten minutes on two cores, once), makes GGUFs of the models that `benchmarks/serving.py
--stage train` trained, with and without n-grams, and lets them complete test prompts greedily: without caches, with the static one,
with both. All outputs must be the same, and the share that transformers writes too is counted. Writes
benchmarks/results/llama_lookup.json. Needs cmake, a C++ compiler and 'tasc-lm[gguf]'.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _measuring import drawn_rows, machine
from _models import EOS, PRESETS, RESULTS
from _serving_models import Served

from tasc.corpus import Tasks, make_template
from tasc.decode import complete, default_max_new_tokens, load_model
from tasc.draft import Drafter
from tasc.export import export_gguf, export_lookup_caches
from tasc.export.llama_cpp import DYNAMIC, STATIC
from tasc.files import write_json

ROOT = Path(__file__).parents[1]
MAX_DRAFT = 10
OFF = (
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_SERVER",
    "LLAMA_BUILD_TOOLS",
    "LLAMA_BUILD_APP",
    "LLAMA_OPENSSL",
    "BUILD_SHARED_LIBS",
)
WAYS = {"no caches": (), "static": (STATIC,), "static and dynamic": (STATIC, DYNAMIC)}
COUNTED = ("n_predict", "n_drafted", "n_accept")
UNFINISHED = "..."
TRIES = 3  # its log loses a line now and then
FLAGS = {STATIC: "--lookup-cache-static", DYNAMIC: "--lookup-cache-dynamic"}


def build(source: Path, folder: Path) -> Path:
    """`llama-lookup`, made from an unpacked source package of llama-cpp-python or a clone of llama.cpp."""
    program = folder / "bin" / "llama-lookup"
    if not program.exists():
        vendored = source / "vendor" / "llama.cpp"
        options = [f"-D{name}=OFF" for name in OFF]
        source = vendored if vendored.is_dir() else source
        subprocess.run(["cmake", "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", *options], check=True)
        subprocess.run(["cmake", "--build", folder, "--target", "llama-lookup", "-j", str(os.cpu_count())], check=True)
    return program


def run(program: Path, model: Path, prompt: str, caches: list[Path], limit: int) -> tuple[str, dict[str, int]]:
    """One prompt, greedily: what it wrote up to the end token or the limit (UNFINISHED), and what it counted."""
    command = [
        program, "-m", model, "-p", prompt, "--no-escape", "-n", str(limit), "--temp", "0", "-c", "1024", "-t", "1",
        "--spec-draft-n-max", str(MAX_DRAFT), "--log-colors", "off",
    ]  # fmt: skip
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory() as folder:
            # copies, because llama-lookup writes over the dynamic one when it ends
            flags = [flag for cache in caches for flag in (FLAGS[cache.name], shutil.copy(cache, folder))]
            done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
        counted = {name: int(value) for name, value in re.findall(r"(n_\w+) += (\d+)", done.stderr)}
        if set(COUNTED) <= set(counted):
            text, ended, _ = done.stdout.removeprefix("\n\n" + prompt).partition(EOS)
            return text if ended else text.rstrip("\n") + UNFINISHED, counted
    raise SystemExit(f"llama-lookup told no counts in {TRIES} tries: {done.stderr[-500:]}")


def equal(one: str, other: str) -> bool:
    """The same output; where the limit ended both, as far as the shorter one goes, since a draft may reach beyond the limit."""
    if one.endswith(UNFINISHED) and other.endswith(UNFINISHED):
        one, other = one.removesuffix(UNFINISHED), other.removesuffix(UNFINISHED)
        return one.startswith(other) or other.startswith(one)
    return one == other


def measure(served: Served, name: str, program: Path, source: Path, n_rows: int) -> dict[str, Any]:
    """One model: passes, drafted and accepted tokens by the caches that are used."""
    folder, gguf = served.models[name], served.folder / f"{name}.gguf"
    if not gguf.exists():
        export_gguf(folder, gguf, llama_cpp=source, outtype="f32", pre="qwen2")
    lookup = served.folder / f"lookup-{name}"
    export_lookup_caches(Drafter.load(served.drafter(name)), lookup, enriched=name == "ft")
    loaded = load_model(folder, device="cpu")
    template = make_template(loaded.tokenizer, "plain")
    rows: Tasks = drawn_rows(served.corpus, PRESETS[served.corpus], n_rows)
    limit = default_max_new_tokens(template, rows.rows)
    texts: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for way, names in WAYS.items():
        caches = [lookup / cache for cache in names]
        done = [run(program, gguf, template.render_prompt(row), caches, limit) for row in rows]
        texts[way] = [text for text, _ in done]
        total = {key: sum(counted[key] for _, counted in done) for key in COUNTED}
        found[way] = {
            "passes": total["n_predict"] - total["n_accept"],
            "drafted": total["n_drafted"],
            "accepted": total["n_accept"],
            "differ": sum(not equal(a, b) for a, b in zip(texts[way], texts["no caches"], strict=True)),
        }
        print(f"  {served.corpus} {name}, {way}: {found[way]}", flush=True)
    theirs = complete(
        loaded.model, loaded.tokenizer, rows, vocabulary=loaded.vocabulary, template=template, max_new_tokens=limit
    ).texts
    # text of transformers ends with its end token or the limit, and does not say which
    same = sum(equal(a, b if a == b else b + UNFINISHED) for a, b in zip(texts["no caches"], theirs, strict=True))
    return {"rows": n_rows, "max_draft": MAX_DRAFT, "as_transformers": same, "ways": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--llama-cpp", type=Path, required=True, help="unpacked source package, or a clone of llama.cpp"
    )
    parser.add_argument("--work", type=Path, default=ROOT / ".work" / "serving")
    parser.add_argument("--corpora", nargs="+", default=["massive_en", "eurlex57k_short"])
    parser.add_argument("--rows", type=int, default=150)
    args = parser.parse_args()
    program = build(args.llama_cpp, args.work / "llama.cpp")
    path = RESULTS / "llama_lookup.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for corpus in args.corpora:
        served = Served(corpus, args.work / corpus)
        found = {name: measure(served, name, program, args.llama_cpp, args.rows) for name in served.models}
        results[corpus] = {"machine": machine(), "llama_cpp": args.llama_cpp.name, "models": found}
        write_json(path, results)


if __name__ == "__main__":
    sys.exit(main())
