"""Works out what a run has to do and why. Loads no model."""
