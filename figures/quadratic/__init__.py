"""Figures on the mini-batch quadratic."""
