"""What every program needs: log, HTTP server, Kafka clients, the topic."""
