"""Drafts of the tokens that come next, from the outputs of the task. Knows ids only."""

from tasc.draft.build import build_drafter, update_drafter
from tasc.draft.drafter import Drafter
from tasc.draft.interface import SOURCES, Draft, Drafts, DraftState
from tasc.draft.memory import Memory
from tasc.draft.options import Options, Origin

__all__ = [
    "SOURCES",
    "Draft",
    "DraftState",
    "Drafter",
    "Drafts",
    "Memory",
    "Options",
    "Origin",
    "build_drafter",
    "update_drafter",
]
