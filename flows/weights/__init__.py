"""Published weights: what there is, what a configuration needs, and how it is downloaded."""
