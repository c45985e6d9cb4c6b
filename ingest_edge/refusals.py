"""The refusals of the edge."""

from ingest_edge.metrics import REQUESTS
from runtime.refusals import Refusals

refusals = Refusals("edge", lambda path, status: REQUESTS.labels(path, status).inc())
