"""Figures on the break-even point."""
