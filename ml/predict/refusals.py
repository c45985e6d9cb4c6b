"""What the prediction service's server refuses before the application sees it."""

from ml.predict.metrics import REQUESTS
from runtime.refusals import Refusals

refusals = Refusals("ml", lambda _, status: REQUESTS.labels(status).inc())
