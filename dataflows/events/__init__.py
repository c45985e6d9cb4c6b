"""Levels, and the events and texts that their changes lead to."""
