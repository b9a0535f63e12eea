"""Supervised loops: plan, act, record."""
