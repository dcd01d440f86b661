"""The student over the grounder's instances: it follows them, chooses one, and draws its mask."""
