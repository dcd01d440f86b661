"""Trains the demo models: small models of the published classes, which know ``shapes`` only."""
