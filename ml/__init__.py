"""Detectors and forecasts. `ml.service` and `ml.batch` are the programs.

- `online`: detectors, over columns of sensors, without any I/O.
- `predict`: forecasts for many sensors at once, and the rows stored for them.
"""
