"""Logs and counts the requests that the edge refuses."""

from ingest_edge.metrics import REQUESTS
from runtime.refusals import Refusals

refusals = Refusals("edge", lambda path, status: REQUESTS.labels(path, status).inc())
