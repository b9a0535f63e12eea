"""Figures that we claim, each against a limit measured in the same run."""
