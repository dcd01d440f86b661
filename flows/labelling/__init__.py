"""Runs one stage on one shard of videos, or on the whole run."""
