"""Everything that uses Prefect, Ray or signals."""
