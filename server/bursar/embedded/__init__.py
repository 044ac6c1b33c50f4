"""A private Redis for one machine, run as a child of the server that needs it."""
