"""Policies of the state machine: small limits, so that every rule comes into play soon."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import yaml

START_MS = round(datetime.fromisoformat("2026-03-08T06:59:00+00:00").timestamp() * 1_000)

SUBJECTS: tuple[dict[str, Any], ...] = (
    {"team": "red", "user": "u1", "task": "t1", "labels": {"tier": "free"}},
    {"team": "red", "user": "u2", "agent": "a1", "task": "t1"},
    {"team": "blue", "user": "u1", "task": "t2", "labels": {"tier": "pro"}},
    {"user": "u2"},
)

_MODELS = """
models:
  - {match: big, provider: p, price: {input: 3, output: 15, cache_read: 0.3, request: "0.00001"}}
  - {match: small, provider: q, price: {input: 0.2, output: 0.8}, max_output_tokens: 300}
"""

_TEXTS = (
    # Levels, in tokens, over calendar windows.
    """
    org: levels
    timezone: America/New_York
    unpriced: allow
    default_output_tokens: 60
    budgets:
      - {name: all, limit: {tokens: 4000}, window: day, alerts: [50]}
      - {name: teams, per: [team], limit: {tokens: 1500}, window: hour, overdraft: {percent: 10}}
      - name: free
        scope: {labels: {tier: free}}
        per: [user]
        limit: {tokens: 700}
        window: month
      - {name: users, per: user, limit: {requests: 5}, window: minute}
      - {name: quiet, limit: {output_tokens: 10}, window: week, mode: observe}
      - {name: loud, scope: {team: red}, limit: {input_tokens: 10}, window: day, mode: warn}
      - {name: nothing, scope: {user: "u9*"}, limit: {tokens: 0}, window: day}
      - {name: endless, limit: {tokens: unlimited}, window: year}
    """,
    # Money, ladders and targets.
    """
    org: money
    default_output_tokens: 60
    budgets:
      - name: month
        limit: {usd: 0.02}
        window: month
        ladder:
          - {at: 40, switch_model: {from: "b*", to: small}}
          - {at: 70, cap_output: 50}
          - {at: 100, queue: {max_wait: 5m}}
      - {name: provider-p, scope: {provider: p}, limit: {usd: 0.01}, window: day}
      - {name: by-model, per: [model], limit: {requests: 6}, window: hour}
      - name: red
        scope: {team: red}
        limit: {usd: 0.008}
        window: day
        priority_headroom: {low: 50, normal: 90, high: 100}
        ladder: [{at: 90, serve_cached: true}]
    """,
    # Agents and their tasks.
    """
    org: agents
    unbudgeted: deny
    unpriced: {fallback: {input: 5, output: 20}}
    budgets:
      - name: tasks
        per: [task]
        limit: {usd: 0.01}
        window: {task: 10m}
        ladder: [{at: 60, finish: true}]
      - {name: at-once, per: [user], limit: {concurrency: 2}}
      - {name: charged, per: [team], limit: {tokens: 2500}, window: day, on_expiry: charge}
      - {name: agent-ten-minutes, per: [agent], limit: {tokens: 900}, window: {rolling: 10m}}
    """,
    # Rolling windows and caps on each request.
    """
    org: rolling
    unpriced: allow
    budgets:
      - {name: rate, per: [user], limit: {requests: 4}, window: {rolling: 1m}}
      - {name: speed, limit: {tokens: 2000}, window: {rolling: 1h}, on_expiry: charge}
      - {name: once-in, limit: {input_tokens: 200}, window: request}
      - {name: once-out, scope: {team: red}, limit: {output_tokens: 90}, window: request}
      - {name: once-cost, limit: {usd: 0.004}, window: request}
      - name: day
        limit: {tokens: 3000}
        window: day
        default_output_tokens: 40
        ladder:
          - {at: 50, cap_output: 30}
          - {at: 80, notify: true, message: soon}
          - {at: 95, deny: true}
    """,
)

POLICIES: list[dict[str, Any]] = [yaml.safe_load(text) | yaml.safe_load(_MODELS) for text in _TEXTS]
