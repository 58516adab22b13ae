"""docs/results/gpu.md from the JSON files that benchmarks/gpu/run.sh wrote: python benchmarks/gpu/page.py"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _models import SCALES, stored
from _tasc_ft_measure import quality_table
from _tasc_spec_page import table

from tasc.files import atomic_write

PAGE = Path(__file__).parents[2] / "docs" / "results" / "gpu.md"
SCALE = SCALES["qwen2.5-0.5b"]
INTRODUCTION = """\
# On a GPU

Made by `bash benchmarks/gpu/run.sh` and `python benchmarks/gpu/page.py`; every figure is in `benchmarks/results/gpu/`. The models
have the sizes of Qwen2.5-0.5B (494M parameters, 24 layers of width 896) and its tokenizer with all 151,665 tokens, but not its weights: they
are trained from scratch on each task for some minutes, as stand-ins, so the comparison says something and the quality in
itself does not. They compute in bfloat16. Run on 26 November 2026, when drafts were chains; trees have not been run on a GPU. `bash benchmarks/gpu/tests.sh` runs the tests of decoding and training on the GPU, where decoding with
drafts equals plain decoding in float32 and the host waits for the device as often with drafts of ten tokens as with drafts of two.
"""


def page() -> str:
    """Markdown."""
    tuned, drafted, cut_off = (
        stored(SCALE.results / name) for name in ("tasc_ft.json", "tasc_spec.json", "tasc_spec_cut_off.json")
    )
    lines = INTRODUCTION.splitlines()
    for corpus, result in tuned.items():
        preset = result["preset"]
        lines += [
            "",
            f"## {corpus}: quality",
            "",
            f"{result['machine']['gpu']}. Target: {preset['target_steps']:,} steps of {preset['rows']} rows; then {preset['tuning_steps']:,} steps for each model. "
            f"{result['rows']['quality']:,} test rows; brackets: 95% bootstrap intervals over rows.",
            "",
            *quality_table(result),
        ]
    lines += [
        "",
        "The same steps for each model, and too few for rows that are new: the enriched models write a quarter (massive_en) and a half",
        "(eurlex57k_short) of the passes, and lose quality. Longer trainings on a CPU [keep it](tasc_ft.md).",
    ]
    for corpus, result in drafted.items():
        lines += ["", f"## {corpus}: speed", "", *_about(result), "", *table(result)]
    for corpus, result in cut_off.items():
        if corpus not in drafted:
            lines += ["", f"## {corpus}: speed, a run that was cut off", "", *_cut_off(result)]
    return "\n".join(lines) + "\n"


def _about(result: dict[str, Any]) -> list[str]:
    rows = ", ".join(f"{n} at batch {batch}" for batch, n in result["rows"].items())
    exact = result["float32"]
    differing = [
        f"{system['system']} {speed['differ'][0]} at batch {speed['batch_size']} (gap {speed['differ'][1]:.2g})"
        for system in result["systems"]
        for speed in system["speed"]
        if speed["differ"]
    ]
    return [
        f"{result['machine']['gpu']}. Rows: {rows}; {result['rounds']} rounds in turns; in brackets the range of the per-round speed-up over plain",
        f"decoding. In float32, of {exact['rows']} rows decoded with drafts {exact['differ']} differ from plain decoding. In bfloat16 rounding",
        f"changes some outputs, with the widest gap between the two logits where they part: {'; '.join(differing) or 'none'}.",
    ]


def _cut_off(result: dict[str, Any]) -> list[str]:
    """Milliseconds of each round, and the ratio to plain decoding in the same round."""
    batches = list(result["rows"])
    rows = ", ".join(f"{n} at batch {batch}" for batch, n in result["rows"].items())
    lines = [
        f"{result['machine']['gpu']}. Not finished: {result['cut_off']}. Rows: {rows}. Rounds of one system differ by up to",
        f"{_spread(result):.1f}x, so only ratios within a round mean something, and those roughly.",
        "",
        "| system | " + " | ".join(f"ms/output, batch {b}, by round | against plain" for b in batches) + " |",
        "|---|" + "---|---|" * len(batches),
    ]
    plain = result["ms_per_output_rounds"]["plain"]
    for system, found in result["ms_per_output_rounds"].items():
        cells = [system]
        for batch in batches:
            ms = found.get(batch, [])
            ratios = [reference / own for reference, own in zip(plain[batch], ms, strict=False)]
            cells += [", ".join(f"{value:.0f}" for value in ms), ", ".join(f"{ratio:.1f}x" for ratio in ratios)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _spread(result: dict[str, Any]) -> float:
    rounds = [ms for found in result["ms_per_output_rounds"].values() for ms in found.values() if len(ms) > 1]
    return max(max(ms) / min(ms) for ms in rounds)


if __name__ == "__main__":
    with atomic_write(PAGE) as file:
        file.write(page())
