"""Evaluations of predictions on disk, a protocol a module."""
