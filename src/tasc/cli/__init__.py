"""The `tasc` command: one file per verb, loaded when called (see `tasc.cli.main`)."""
