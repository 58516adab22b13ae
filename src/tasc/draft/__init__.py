"""Drafts of the tokens that come next, from the outputs of the task. Knows ids only."""
