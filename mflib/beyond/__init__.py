"""Beyond the four papers: shapes, scalings, regularity in depth, and randomness."""
