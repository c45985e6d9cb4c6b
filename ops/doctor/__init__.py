"""`iot doctor`: whether everything around the pipeline is as it must be."""
