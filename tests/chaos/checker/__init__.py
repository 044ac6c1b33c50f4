"""An offline checker: a recorded history, a dump of the ledger and one of Redis, against I1-I12.

It is a program of its own and knows nothing of the server's code: only what the three files say
(`evidence.py` has their format) and what the invariants are.

    python -m checker HISTORY LEDGER REDIS

run in the folder above this one; exit code 1 with a line for each violation.
"""
