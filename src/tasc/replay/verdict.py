"""The verdict before deployment in plain words: will drafts help here, what will they cost or save, what to do next."""

from typing import Any

from tasc.replay.tune import Tuning

ROUGH_BELOW_ROWS = 100  # held-out rows
SEEN_TOLD = (
    0.5  # share of rows known to the drafter from which on to doubt the figures; a third are in tasks with templates
)
SEEN_OUTPUTS_TOLD = 0.9  # the same where only outputs can be compared, which repeat in many tasks


def verdict(tuning: Tuning) -> dict[str, Any]:
    """`helps`, whether to decode with drafts, and `text`, why, with the figures and the next step."""
    helps = tuning.effect == "helps"
    return {"helps": helps, "text": " ".join([_effect(tuning), _gain(tuning), *_doubts(tuning), _next(tuning)])}


def _effect(tuning: Tuning) -> str:
    speedup, plain, drafted = tuning.after.speedup, tuning.plain_ms_per_output, tuning.after.ms_per_output
    change = drafted / plain - 1
    figures = (
        f"{drafted:.1f} ms per output instead of {plain:.1f} at batch size {tuning.batch_size}, {speedup.value:.2f} times as "
        f"fast (95% interval {speedup.low:.2f} to {speedup.high:.2f}, {tuning.rows['held_out']:,} held-out rows)"
    )
    if tuning.effect == "helps":
        return f"Drafts will help here: {figures}."
    if tuning.effect == "no difference":
        return f"Drafts make no difference here worth having: {figures}."
    return (
        f"Drafts would lose time here: {figures}. They switch themselves off while they lose; what is left of the loss is "
        f"{change:.1%} of the time."
    )


def _gain(tuning: Tuning) -> str:
    saved = tuning.saved_ms
    if tuning.after is tuning.before:
        return "The drafter is best left as it is."
    share = saved.value / tuning.before.ms_per_output
    figures = f"{abs(share):.1%} of the time with drafts ({saved.low:.2f} to {saved.high:.2f} ms per output)"
    if saved.low > 0:
        return f"Tuning saves {figures}."
    return f"Tuning costs {figures}." if saved.high < 0 else "Tuning changes nothing that these rows could show."


def _doubts(tuning: Tuning) -> list[str]:
    seen, n_held_out, doubts = tuning.seen, tuning.rows["held_out"], []
    if seen.by_prompt and seen.share >= SEEN_TOLD:
        doubts.append(
            f"Warning: {seen.seen:,} of {seen.compared:,} rows look like rows that the drafter was built from; new ones "
            "will do worse."
        )
    if not seen.by_prompt and seen.share >= SEEN_OUTPUTS_TOLD:
        doubts.append(
            f"Warning: {seen.seen:,} of {seen.compared:,} outputs stand in the drafter word for word; if it was built from "
            "these rows, new ones will do worse."
        )
    if n_held_out < ROUGH_BELOW_ROWS:
        doubts.append(f"Only {n_held_out} held-out rows: take the figures as rough.")
    if tuning.cost.about.get("default"):
        doubts.append(
            f"The times are of a curve typical of {tuning.cost.about.get('device')}; 'tasc profile' measures yours."
        )
    return doubts


def _next(tuning: Tuning) -> str:
    if tuning.effect == "helps":
        return "Next: 'tasc generate --drafter ... --compare' measures it with the model."
    if tuning.batch_size > 1:
        return "Next: decode plainly at this batch size, or try a smaller one (--batch-size), where drafts pay sooner."
    return (
        "Next: decode plainly, build the drafter from more outputs of this very task, or try the curve of a machine where "
        "wider passes are cheap, such as a GPU."
    )
