"""Trains the demo models: tiny models of the published classes, on ``shapes`` alone."""
