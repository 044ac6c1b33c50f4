"""The record: what the journal said, kept in PostgreSQL, and everything that is read from it."""
