"""From the topic to panes, levels and events. Everything behind the source is a pure function."""
