"""Checks stored bytes against their receipts, and repairs a run."""
