"""Lull's flows: when things happen, and in which order."""
