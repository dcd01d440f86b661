"""Masks in and out: exports, and the import of masks of other methods."""
