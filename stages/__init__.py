"""The work of each stage. torch is imported here; Prefect and zarr are not."""
