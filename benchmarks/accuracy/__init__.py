"""Trainings on real scans, side by side with one budget; they take tens of minutes and need data."""
