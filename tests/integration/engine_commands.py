"""The commands that scripts may use: what reads, and what writes."""

from __future__ import annotations

READS = {"GET", "MGET", "HGET", "HMGET", "ZRANGEBYSCORE", "XLEN", "XRANGE"}
WRITES = {"SET", "HSET", "HINCRBY", "HDEL", "ZADD", "ZREM", "XADD", "PEXPIRE"}
