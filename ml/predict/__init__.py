"""Forecasts and the rows stored for them.

`series` -> `ridge` -> `forecast` and `residuals` -> `forest` compute, for many sensors at once;
`fleet` runs them for a chunk of sensors of one type; `outlook` -> `assessment` -> `forecast_rows`
turn a result into rows, with `texts`. `store` and `connections` reach the database.
"""
