"""The work: augment, ground, segment, fuse, rank, student. No Prefect, no zarr, no pyarrow."""
