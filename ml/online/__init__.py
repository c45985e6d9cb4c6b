"""Detectors of unusual panes, over columns of sensors. No I/O.

`partition` runs all detectors of a partition, as the flow uses them: `level_noise` for every
sensor, and `self_similarity` for the sensors that have it enabled. Both are built from `cadence`,
`lags`, `tail` and `calibration`. `scorer` is the interface of every detector.
"""

from ml.online.partition import PartitionDetector

__all__ = [
    "PartitionDetector",
]
