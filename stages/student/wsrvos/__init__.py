"""WSRVOS: a student that learns from sentences alone (arXiv 2604.17797)."""
