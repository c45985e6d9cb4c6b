"""Detectors and forecasts.

Online, over columns of sensors, without any I/O: `partition` (all detectors of a partition, as the
flow uses them), `light`, `deep`, and what they are made of (`pace`, `lags`, `record`, `tail`); the
opponents in the benchmarks (`ewma`, `windowed_gaussian`, `iforest`); what all of them can do is in
`scorer`.

In batches: `series` -> `ridge` -> `forecast`, `residuals` -> `forest`, all of a chunk of sensors in
`fleet`; `outlook` -> `assessment` -> `rows`, with `thresholds` and `texts`. With I/O are `store`,
`connections`, and the two programs `service` (with `predict`) and `batch`.
"""
