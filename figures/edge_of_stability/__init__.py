"""Figures on minimal models of the edge of stability."""
