"""What every program needs around its own work: log, HTTP server, Kafka clients, the topic."""
