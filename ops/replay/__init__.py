"""`iot replay`: the log again, beside the live flow; run.py is the way of a replay on one page."""
