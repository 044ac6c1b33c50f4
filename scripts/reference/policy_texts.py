"""What each field of a policy document means, for its reference page and its JSON Schema.

The models in `server/bursar/domain/policy_document.py` say names, types, ranges and defaults; the
texts are here. `policy_schema` fails where a field has no text or a text has no field.
"""

from __future__ import annotations

MODELS = {
    "PolicyDocument": (
        "Policy",
        "Everything that the requests of one org are decided by: one document, YAML or JSON, at "
        "most 4 MiB. A document with any fault is refused whole.",
    ),
    "BudgetDocument": (
        "Budget",
        "A limit on one meter, for the requests that its scope matches, per window, with one "
        "counter for each value of `per`.",
    ),
    "LimitDocument": (
        "Limit",
        "Exactly one meter and how much of it. Beside the meters listed here it may be one that "
        "the policy declares under `meters`. `0` means that nothing may be spent; `unlimited` "
        "only counts.",
    ),
    "ScopeDocument": (
        "Scope",
        "Which requests a budget counts. All given attributes must match. A value is a text, a "
        "pattern with `*`, `?` and `[...]`, or a list of these, of which one must match. A "
        "request that lacks a given attribute does not match. Providers and models are compared "
        "without regard to case, everything else exactly.",
    ),
    "RollingDocument": ("Rolling window", "A window that ends now and moves on by itself."),
    "TaskWindowDocument": ("Task window", "A window that lasts as long as a task is in use."),
    "FixedDocument": (
        "Fixed window",
        "A window with fixed ends. Outside of it the budget does not apply.",
    ),
    "RungDocument": (
        "Rung",
        "What happens when a budget is filled to `at` percent: exactly one action, or only a "
        "notice. Rungs are sorted by `at`.",
    ),
    "SwitchModelDocument": ("Switch model", "Call another model."),
    "QueueDocument": ("Queue", "Try again later."),
    "OverdraftDocument": (
        "Overdraft",
        "How far past its limit a budget may go: either `percent`, or an amount in the limit's "
        "own unit (the same key as in `limit`). Limit and overdraft together are at most "
        "2^53 - 1 units, $9,007,199.254740991 in money.",
    ),
    "CarryOverDocument": (
        "Carry over",
        "What of a calendar window goes into the next one: what was left of the limit, what was "
        "used past it, or both. It comes as a credit of the new window, seconds after it has "
        "begun.",
    ),
    "CarryMostDocument": (
        "Carry over at most",
        "How much is carried: either `percent` of the limit, or an amount in the limit's own unit.",
    ),
    "HeadroomDocument": (
        "Priority headroom",
        "Up to which percent of the limit requests of each priority may fill the budget.",
    ),
    "ModelDocument": (
        "Model",
        "What is known of the models that a pattern matches. Of several entries that match, the "
        "first that gives a field decides that field.",
    ),
    "PriceDocument": (
        "Price",
        "USD for a million tokens of each class, and USD for a call. A class without a price of "
        "its own costs what the class that it is part of costs.",
    ),
    "FallbackDocument": ("Fallback", "A price for models that have none."),
}
"""Title and text of each model, in the order of the page."""

FIELDS = {
    "PolicyDocument": {
        "org": "The organization, as in `subject.org`.",
        "description": "For people; it decides nothing.",
        "timezone": "IANA time zone of every calendar window that names none.",
        "unbudgeted": "A request that no budget matches is granted and flagged, or denied.",
        "unpriced": "What happens when a money budget applies and the model has no known price: "
        "`deny`; `allow`, uncharged and flagged; or a fallback price, flagged.",
        "default_output_tokens": "Output tokens of a request that names none, where neither a "
        "matching budget nor the model says how many.",
        "meters": "Names of the org's own meters, such as `images`: `[a-z][a-z0-9_]{0,62}`.",
        "models": "Prices and limits of models, before those of the price data.",
        "budgets": "The budgets. All that match a request apply to it at once.",
    },
    "BudgetDocument": {
        "name": "Unique in the document. Answers name a budget by it, and it is part of the "
        "counter's name: a renamed budget starts at 0.",
        "description": "For people; it decides nothing.",
        "scope": "Which requests it counts; without it, all of the org.",
        "per": "One counter for each value of these: `team`, `feature`, `agent`, `user`, `task`, "
        "`provider`, `model` or `labels.KEY`. A request that lacks one does not match.",
        "limit": "The meter and how much of it.",
        "window": "Over what time it counts. Required, except with `concurrency`, which has none.",
        "timezone": "IANA time zone, for calendar windows; without it, the policy's.",
        "anchor_day": "Day on which months, quarters and years begin; without it, 1. In a shorter "
        "month it is the last day. For `month`, `quarter` and `year` only.",
        "week_start": "First day of the week; without it, `monday`. For `week` only.",
        "mode": "`enforce` refuses; `warn` grants and says so; `observe` grants silently and "
        "counts in a metric; `off` neither counts nor refuses.",
        "overdraft": "How far past the limit it may go.",
        "priority_headroom": "What less important requests leave for more important ones.",
        "on_expiry": "What becomes of a hold that nobody settles: given back, or booked as spent.",
        "on_unavailable": "What becomes of a request while nothing can be decided because Redis is "
        "away, full or has lost data: refused, or granted unchecked and flagged. It is granted "
        "where every budget that could refuse it says `open`.",
        "carry_over": "What of a window goes into the next one. Only of calendar windows.",
        "backfill": "Whether a budget that begins to count in the middle of its window starts with "
        "what the ledger knows to be used in it. Task windows start at 0.",
        "alerts": "Percent of the limit, committed, at which the server logs "
        "`budget_threshold_crossed`, once for each counter, window and threshold.",
        "default_output_tokens": "Output tokens of a request that names none; of several matching "
        "budgets the smallest counts.",
        "ladder": "What happens as it fills up. Not for `request` windows and `unlimited`.",
    },
    "LimitDocument": {
        "usd": "Money in USD, with at most 9 decimals: a nano-USD is the least there is.",
        "tokens": "Input and output tokens together.",
        "input_tokens": "Input tokens, cached ones included.",
        "output_tokens": "Output tokens, reasoning included.",
        "requests": "Calls of the model.",
        "concurrency": "Open reservations at one moment.",
    },
    "ScopeDocument": {
        "team": "The team.",
        "feature": "The feature.",
        "agent": "The agent.",
        "user": "The user.",
        "task": "The task.",
        "provider": "The provider of the model that is called, such as `openai`.",
        "model": "The model that is called, after aliases are resolved.",
        "labels": "Further attributes by key: `{tier: free}`.",
    },
    "RollingDocument": {
        "rolling": "How long it is. It is cut into at most 60 buckets; the oldest counts whole, "
        "so it never undercounts.",
    },
    "TaskWindowDocument": {
        "task": "How long a task may be unused before the same name begins anew. The word "
        "`task` alone means 24 h.",
    },
    "FixedDocument": {
        "from": "First instant, with its UTC offset: `2026-07-01T00:00:00Z`.",
        "until": "First instant after it, with its UTC offset.",
    },
    "RungDocument": {
        "at": "Percent of the limit. At 100 an overdraft comes on top of it.",
        "switch_model": "Restricts: past `at`, only calls of another model.",
        "cap_output": "Restricts: past `at`, at most so many output tokens a call.",
        "finish": "Restricts: past `at`, only closing answers and callers who accept to finish.",
        "serve_cached": "Ends: past `at` nothing is granted; answer from a cache.",
        "queue": "Ends: past `at` nothing is granted; try again later.",
        "deny": "Ends: past `at` nothing is granted.",
        "notify": "With `message`: say it in every answer while use is at or above `at`.",
        "message": "For an end user, with placeholders: `{budget}`, `{percent}`, `{limit}`, "
        "`{remaining}`, `{resets_in}`, `{affordable_output_tokens}`, `{model}`.",
    },
    "SwitchModelDocument": {
        "from": "Pattern for the models that it replaces, such as `gpt-5*`.",
        "to": "The model to call instead.",
        "to_provider": "Its provider; without it, found by the model's name.",
    },
    "QueueDocument": {"max_wait": "The longest time that waiting makes sense."},
    "CarryOverDocument": {
        "unused": "Add what was left of limit and credit to the next window.",
        "debt": "Take what was used past limit and credit off the next window.",
        "max": "How much of either at the most. Without it: as much as the limit.",
    },
    "CarryMostDocument": {
        "percent": "Percent of the limit, rounded down to the meter's unit.",
        "usd": "Money in USD, for a money budget.",
    },
    "OverdraftDocument": {
        "percent": "Percent of the limit, rounded down to the meter's unit.",
        "usd": "Money in USD, for a money budget.",
    },
    "HeadroomDocument": {
        "low": "For `PRIORITY_LOW`.",
        "normal": "For `PRIORITY_NORMAL`, which is the default.",
        "high": "For `PRIORITY_HIGH`.",
    },
    "ModelDocument": {
        "match": "Pattern for the model's name; upper and lower case are the same.",
        "provider": "Whose models these are: a request for another provider does not match, and "
        "one that names none gets this one.",
        "alias_of": "The model as which they count in every way, in price and scope too.",
        "max_output_tokens": "What they can produce; larger requests are lowered to it. Without "
        "it the context window of the price data, where it has one.",
        "default_output_tokens": "Output tokens of a request that names none, where no matching "
        "budget says how many.",
        "price": "What they cost.",
    },
    "PriceDocument": {
        "input": "A million input tokens.",
        "output": "A million output tokens, reasoning included.",
        "cache_read": "A million input tokens read from the provider's cache; else `input`.",
        "cache_write": "A million input tokens written to the provider's cache; else `input`.",
        "input_audio": "A million audio tokens of the input; else `input`.",
        "output_audio": "A million audio tokens of the output; else `output`.",
        "request": "One call; else 0.",
    },
    "FallbackDocument": {"fallback": "The price."},
}
"""Meaning of each field, by model, by the name that is written in a document."""
