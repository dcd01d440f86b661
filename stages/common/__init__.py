"""What several stages share: batching, weights, resizing. Imports no stage."""
