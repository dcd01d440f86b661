"""What the Prefect UI shows of a run: artifacts, events, states, labels, its log."""
