"""Generated from protos/bursar/v1 by `make gen`; do not edit."""
