"""Stage ``segment``: masks for boxes, by segment-anything."""
