FROM python:3.12-slim-bookworm

# unixodbc: pyodbc loads it; libgssapi-krb5-2: Microsoft's driver does
RUN apt-get update \
    && apt-get install --yes --no-install-recommends unixodbc libgssapi-krb5-2 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.lock .
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY contract contract
COPY runtime runtime
COPY sql sql
COPY rules rules
COPY sinks sinks
COPY ml ml
COPY dataflows dataflows
COPY ingest_edge ingest_edge
COPY ops ops
RUN printf '#!/bin/sh\nexec python -m ops.cli "$@"\n' > /usr/local/bin/iot \
    && chmod +x /usr/local/bin/iot \
    && useradd --create-home --uid 1000 iot \
    && mkdir -p /var/lib/iot/recovery \
    && chown -R iot /var/lib/iot \
    && chmod 700 /var/lib/iot/recovery
USER iot
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
CMD ["iot", "--help"]
