"""Orgs on several shards, so that a cluster has them on several servers."""

from __future__ import annotations

from typing import Any

from engine_calls import MODELS

ORGS = [f"org{number}" for number in range(12)]
SHARDS = 8


def policy(org: str) -> str:
    return f"""
org: {org}
budgets:
  - {{name: day, limit: {{tokens: 1000000}}, window: day}}
  - {{name: user, per: [user], limit: {{tokens: 1000000}}, window: day}}
{MODELS}
"""


def meta_of(world: Any, org: str) -> str:  # noqa: ANN401 - a world of either kind
    """Return the key that tells an org's slot."""
    key: str = world.keys.meta(world.keys.shard_of(org))
    return key
