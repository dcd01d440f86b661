"""Metrics of pseudo-masks and predictions against ground truth, one module per protocol."""
