"""A private Redis and PostgreSQL for one machine, children of the server that needs them."""
