"""Reads the JSON documents that `tasc eval`, `tasc generate --compare` and `tasc tune` print."""

from collections.abc import Mapping
from typing import Any

from tasc.report._demo import drafts_of, metrics_of
from tasc.report.data import Estimate, Run, Speed, System, TimeShares
from tasc.report.shared import tried_of


def read_eval(found: Mapping[str, Any], *, name: str) -> Run:
    """Of `tasc eval --json`."""
    labels = {metric: metric.replace("_", " ") for metric in found["quality"]}
    ms, batch = found.get("ms_per_output"), found.get("batch_size")
    measured = found.get("model") or found.get("predictions") or name
    differences = {key: gap for key, gap in found.get("differences", {}).items() if gap["low"] > 0 or gap["high"] < 0}
    verdict = [
        f"{labels[key]}: {gap['value']:+.3f} against the other model (95% interval {gap['low']:+.3f} to {gap['high']:+.3f})."
        for key, gap in differences.items()
    ]
    if found.get("differences") and not verdict:
        verdict = ["No difference to the other model that these rows could show."]
    return Run(
        name=name,
        kind="eval",
        facts=(("measured", str(measured)), ("metric", str(found["metric"])), ("rows", f"{found['n']:,}")),
        verdict=tuple(verdict),
        systems=(
            System(
                name=name,
                quality=metrics_of(found["quality"], found["intervals"], labels),
                passes_per_output=found.get("passes_per_output"),
                tokens_per_output=found.get("tokens_per_output"),
                speeds=() if ms is None or batch is None else (Speed(batch, ms, None),),
            ),
        ),
        test_rows=found["n"],
    )


def read_compare(found: Mapping[str, Any], *, name: str) -> Run:
    """Of `tasc generate --compare --json`."""
    batch, ms, passes = found["batch_size"], found["ms_per_output"], found["passes_per_output"]
    low, high = found["speedup_range"]
    speed_up = Estimate(found["speedup"], low, high)
    prefill, drafting = found["prefill_ms_per_output"], found["draft_ms_per_output"]
    others = (ms["plain"] - prefill["plain"], ms["speculative"] - prefill["speculative"] - drafting)
    plain = System(
        name="plain",
        passes_per_output=passes["plain"],
        speeds=(Speed(batch, ms["plain"], None),),
        time=TimeShares(batch, prefill["plain"], 0.0, max(others[0], 0.0)),
    )
    drafted = System(
        name="drafts",
        passes_per_output=passes["speculative"],
        speeds=(Speed(batch, ms["speculative"], speed_up),),
        time=TimeShares(batch, prefill["speculative"], drafting, max(others[1], 0.0)),
        changed=len(found["different_rows"]),
    )
    return Run(
        name=name,
        kind="compare",
        facts=(("model", str(found.get("model"))), ("rows", f"{found['n']:,}"), ("device", str(found["device"]))),
        verdict=(_compared(found),),
        next_steps=_after_compare(low, high),
        systems=(plain, drafted),
        drafts=(drafts_of("drafts", found),),
    )


def _compared(found: Mapping[str, Any]) -> str:
    low, high = found["speedup_range"]
    same = "the same outputs" if found["identical"] else f"{len(found['different_rows'])} outputs differ"
    return (
        f"With drafts {found['speedup']:.2f} times as fast at batch {found['batch_size']} ({low:.2f} to {high:.2f} over the "
        f"rounds), {same}."
    )


def _after_compare(low: float, high: float) -> tuple[str, ...]:
    if low > 1:
        return ("Decode with this drafter: 'tasc generate --drafter', or tasc.speculative in your own code.",)
    if high < 1:
        return ("Decode plainly here, or fit the drafter to the machine: 'tasc profile', then 'tasc tune'.",)
    return ("Rounds disagree: measure on a quiet machine with more --repeats, or fit the drafter with 'tasc tune'.",)


def read_tune(found: Mapping[str, Any], *, name: str) -> Run:
    """Of `tasc tune --json`."""
    batch = found["batch_size"]
    systems = [System(name="plain", passes_per_output=None, speeds=(Speed(batch, found["plain_ms_per_output"], None),))]
    for label, key in (("drafter as it was", "before"), ("tuned drafter", "after")):
        one = found[key]
        interval = one["speedup"]
        speed_up = Estimate(interval["mid"], interval["low"], interval["high"])
        systems.append(
            System(
                name=label,
                passes_per_output=one["passes_per_output"],
                speeds=(Speed(batch, one["ms_per_output"], speed_up),),
                changed=0,
            )
        )
    verdict, _, step = found["verdict"]["text"].partition(" Next: ")
    return Run(
        name=name,
        kind="tune",
        facts=(("drafter", str(found["drafter"])), ("held-out rows", f"{found['rows']['held_out']:,}")),
        verdict=(verdict,),
        next_steps=(step[:1].upper() + step[1:],) if step else (),
        systems=tuple(systems),
        tried=tried_of(found["tried"]),
    )
