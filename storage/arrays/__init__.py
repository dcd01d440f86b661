"""Zarr stores of masks, candidates and hypotheses."""
