"""Detectors and forecasts. `ml.service` and `ml.batch` are the programs.

- `online`: detectors, over columns of sensors, without any I/O.
- `predict`: forecasts of many sensors at once, and what is stored of them.
"""
