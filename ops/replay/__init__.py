"""`iot replay`: read the log again, next to the live flow. run.py shows a replay on one page."""
