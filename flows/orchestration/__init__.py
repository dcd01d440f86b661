"""All that knows Prefect, Ray and signals."""
