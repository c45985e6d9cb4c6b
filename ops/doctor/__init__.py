"""`iot doctor`: check that everything the pipeline needs is there."""
