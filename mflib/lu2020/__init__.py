"""Lu et al. 2020: the mean-field ODE of deep residual networks, and Algorithm 1."""
