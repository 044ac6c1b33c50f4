"""The gRPC service: decode, authorize, call, encode. Nothing else knows grpc."""
