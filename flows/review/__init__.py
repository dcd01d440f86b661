"""People review the masks of a run: what to look at first, their decisions, and the page for it."""
