"""The verbs of `iot`: options, help and output of each. `ops.cli` assembles them."""
