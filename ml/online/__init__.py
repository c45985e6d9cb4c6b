"""Detectors of unusual panes, over columns of sensors. No I/O.

`partition` has all detectors of a partition, as the flow uses them: `level_noise` for every sensor
and `self_similarity` for those that are given it. Both are built from `cadence`, `lags`, `tail` and
`calibration`. `scorer` names what every detector can do.
"""
