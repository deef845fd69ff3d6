"""Lull's reports: saved results become pages."""
