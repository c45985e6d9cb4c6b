"""HTTP to valid packet to topic. A 2xx means that the packet is in Kafka, acknowledged."""
