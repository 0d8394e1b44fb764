"""Figures on schedules, averages and merges."""
