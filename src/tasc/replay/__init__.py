"""Drafters without a model: replayed on recorded or reference outputs, next to their rivals. Knows ids only."""

from tasc.replay.simulate import ReplayResult, replay, replay_log

__all__ = ["ReplayResult", "replay", "replay_log"]
