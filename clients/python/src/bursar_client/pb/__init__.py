"""Generated from protos/bursar/v1 by `make gen`; do not edit.

`NotImplementedError` in the servicers is grpcio-tools' own: it goes with UNIMPLEMENTED, the answer
to a method that a servicer leaves out, and is never raised by a stub.
"""
