"""Figures on forecasts of loss curves."""
