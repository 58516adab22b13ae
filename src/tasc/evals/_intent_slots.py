"""Intent and slots: outputs of the form `intent: X, slot fills: {slot: value, slot: value}`."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tasc.errors import DataError
from tasc.evals._metric import Measured, Metric, precision_recall_f1, share

_OUTPUT = re.compile(r"intent: (?P<intent>[^,{}]*[^,{}\s]), slot fills: \{(?P<slots>.*)\}", re.DOTALL)
# a value may hold commas and colons, so a slot begins only where a name and ": " follow the comma
_BETWEEN_SLOTS = re.compile(r", (?=[A-Za-z_][A-Za-z0-9_]*: )")
_SLOT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*): (?P<value>.*\S.*)", re.DOTALL)

Slots = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A parsed output.

    Attributes:
        intent: its name.
        slots: (name, value) pairs in their order; names may repeat.
    """

    intent: str
    slots: Slots


def parse_frame(text: str) -> Frame | None:
    """Parse an output; None where it is malformed. White space around the output and around values does not count.

    Examples:
        >>> parse_frame("intent: alarm_set, slot fills: {time: five am, date: this week}")
        Frame(intent='alarm_set', slots=(('time', 'five am'), ('date', 'this week')))
        >>> parse_frame("intent: RateBook, slot fills: {object_name: one, two: a tale}").slots
        (('object_name', 'one'), ('two', 'a tale'))
        >>> parse_frame("intent: GetWeather, slot fills: {timeRange: 13:22:09, city: Paris, Texas}").slots
        (('timeRange', '13:22:09'), ('city', 'Paris, Texas'))
        >>> parse_frame("intent: alarm_set, slot fills: {time: five") is None
        True
    """
    output = _OUTPUT.fullmatch(text.strip())
    if output is None:
        return None
    inner = output["slots"].strip()
    found = [_SLOT.fullmatch(piece) for piece in _BETWEEN_SLOTS.split(inner)] if inner else []
    slots = [(slot["name"], slot["value"].strip()) for slot in found if slot is not None]
    return Frame(output["intent"].strip(), tuple(slots)) if len(slots) == len(found) else None


class IntentSlots(Metric):
    """Intent accuracy, slot F1 and joint accuracy.

    A slot is right when the reference has the same name with the same value (upper and lower case differ); as often as
    the reference has it, since slots may repeat; their order does not count. `slot_f1` is micro-averaged over all slots
    of all rows, whatever the intent. A row is jointly right when its intent is and its slots are exactly the
    reference's. A malformed output has a wrong intent and no slots, so all slots of its reference count as missed.
    """

    name = "intent-slots"

    def _measure(self, predictions: Sequence[str], references: Sequence[str]) -> Measured:
        expected = [self._reference(row, text) for row, text in enumerate(references)]
        got = [parse_frame(text) for text in predictions]
        pairs = list(zip(got, expected, strict=True))
        precision, recall, f1 = precision_recall_f1(
            [sum((_slots(g) & _slots(e)).values()) for g, e in pairs],
            [_slots(g).total() for g in got],
            [_slots(e).total() for e in expected],
            empty=1.0,  # no slots anywhere, none invented
        )
        return Measured(
            {
                "intent_accuracy": share([g is not None and g.intent == e.intent for g, e in pairs]),
                "slot_f1": f1,
                "joint_accuracy": share(
                    [g is not None and g.intent == e.intent and _slots(g) == _slots(e) for g, e in pairs]
                ),
                "slot_precision": precision,
                "slot_recall": recall,
                "malformed": share([g is None for g in got]),
            }
        )

    def _reference(self, row: int, text: str) -> Frame:
        frame = parse_frame(text)
        if frame is None:
            raise DataError(
                f"reference {row} is not 'intent: X, slot fills: {{slot: value, ...}}': {text[:80]!r}; "
                "choose another --metric or fix the data"
            )
        return frame


def _slots(frame: Frame | None) -> Counter[tuple[str, str]]:
    return Counter() if frame is None else Counter(frame.slots)
