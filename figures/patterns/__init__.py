"""Figures on two patterns, one easy to generalise."""
