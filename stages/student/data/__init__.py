"""Clips and what supervises them."""
