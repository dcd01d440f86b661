"""SimRVOS with LGCFS and BLCL (arXiv 2308.02162), and SLVP pre-training of its modules."""
