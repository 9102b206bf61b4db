"""Fang et al. 2021: residual networks as laws of features, and the neural feature flow."""
