"""Measures the figures in the README: ratios to a floor that is measured in the same run."""
