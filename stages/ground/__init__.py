"""Stage ``ground``: boxes for sentences, by Grounding DINO (groundingdino-py)."""
