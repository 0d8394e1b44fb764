"""Figures on the uv network and networks' first steps."""
