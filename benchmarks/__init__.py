"""Measurements, each beside something else in the same run; figures are kept in RESULTS.md."""
