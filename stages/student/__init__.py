"""Stage ``student``: a referring-video-segmentation model trained on the pseudo-masks (SimRVOS)."""
