"""Requests that the prediction service's HTTP server refuses before they reach the application."""

from ml.predict.metrics import REQUESTS
from runtime.refusals import Refusals

refusals = Refusals("ml", lambda _, status: REQUESTS.labels(status).inc())
