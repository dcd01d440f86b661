"""The work: augment, ground, segment, fuse, rank, student. torch lives here, no Prefect or zarr."""
