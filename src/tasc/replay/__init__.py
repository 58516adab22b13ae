"""Drafters without a model: on recorded or reference outputs, next to their rivals."""
