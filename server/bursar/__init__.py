"""Bursar, the budget authority for LLM spend."""

__version__ = "0.1.0"
