"""Figures on the sharpest directions."""
