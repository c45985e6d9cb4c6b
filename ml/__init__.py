"""Detectors of anomalies: online, over columns of sensors, with no I/O."""
