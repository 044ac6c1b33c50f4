"""Counters and holds on Redis: the only code that knows redis. The scripts are in `lua/`."""
