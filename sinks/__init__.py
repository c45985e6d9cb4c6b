"""Batches of rows to the configured database, each written once however often it is sent."""
