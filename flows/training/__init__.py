"""Builds, trains and applies students."""
