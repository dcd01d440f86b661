"""The tables of the papers, as students that are trained and measured side by side."""
