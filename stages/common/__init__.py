"""Code that several stages share: batching, weights, resizing. It imports no stage."""
