"""Receives packets over HTTP, validates them and writes them to the topic. A 2xx response means
that Kafka has acknowledged the packet.
"""
