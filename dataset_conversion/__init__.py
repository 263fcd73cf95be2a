"""Conversion scripts, one per dataset, runnable and importable."""
