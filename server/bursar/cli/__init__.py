"""The `bursar` command: thin over the gRPC API, like any other client."""
