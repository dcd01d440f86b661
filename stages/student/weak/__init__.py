"""Losses of masks by weak annotation, for every student that draws masks with dynamic filters."""
