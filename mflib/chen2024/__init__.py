"""Chen et al. 2024: the scaled network, its Gram matrices, KL divergence and generalisation."""
