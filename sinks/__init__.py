"""Writes batches of rows to the configured database. Writing a row twice changes nothing."""
