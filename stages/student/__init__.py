"""Stage ``student``: a referring-video-segmentation model trained on the pseudo-masks (SimRVOS)."""

VERSION = 3
"""Goes into fingerprints; raised when the same configuration trains another model."""
