"""ReferFormer (arXiv 2201.00487): language as queries of a deformable transformer."""
