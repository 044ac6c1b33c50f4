-- migrate:up

-- What this installation is. The shard count and the namespace are set by the first server and
-- never change: every key of Redis depends on them. A server refuses a database that wants a newer
-- release than `oldest_schema` allows; a migration that takes something away raises it.
CREATE TABLE installation (
    only_row        boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    installation_id uuid        NOT NULL DEFAULT gen_random_uuid(),
    shard_count     integer     CHECK (shard_count > 0),
    key_namespace   text,
    oldest_schema   text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation (oldest_schema) VALUES ('0001');

-- How far each shard's journal is recorded. A batch moves it by compare-and-set on epoch and
-- stream_id, in the transaction that writes what it read, so an event counts once.
CREATE TABLE journal_position (
    shard       integer     PRIMARY KEY,
    epoch       text        NOT NULL,
    stream_id   text        NOT NULL DEFAULT '0-0',
    sequence    bigint      NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each event, append-only, named by its place in the journal: a shard that went back
-- gives sequence numbers a second time until that is noticed. counter_ids, slots, held, committed and credit are
-- parallel: what the event added to each counter that it touched.
CREATE TABLE ledger_entries (
    at                  timestamptz NOT NULL,
    shard               integer     NOT NULL,
    epoch               text        NOT NULL,
    stream_id           text        NOT NULL,
    sequence            bigint      NOT NULL,
    ordinal             integer     NOT NULL,
    verb                text        NOT NULL,
    org                 text        NOT NULL,
    reservation_id      text        NOT NULL,
    request_id          text        NOT NULL,
    team                text        NOT NULL DEFAULT '',
    feature             text        NOT NULL DEFAULT '',
    agent               text        NOT NULL DEFAULT '',
    "user"              text        NOT NULL DEFAULT '',
    task                text        NOT NULL DEFAULT '',
    labels              jsonb       NOT NULL DEFAULT '{}',
    provider            text        NOT NULL DEFAULT '',
    model               text        NOT NULL DEFAULT '',
    outcome             text        NOT NULL DEFAULT '',
    late                boolean     NOT NULL DEFAULT false,
    estimated           boolean     NOT NULL DEFAULT false,
    requests            bigint      NOT NULL DEFAULT 0,
    input_tokens        bigint      NOT NULL DEFAULT 0,
    output_tokens       bigint      NOT NULL DEFAULT 0,
    cache_read_tokens   bigint      NOT NULL DEFAULT 0,
    cache_write_tokens  bigint      NOT NULL DEFAULT 0,
    input_audio_tokens  bigint      NOT NULL DEFAULT 0,
    reasoning_tokens    bigint      NOT NULL DEFAULT 0,
    output_audio_tokens bigint      NOT NULL DEFAULT 0,
    cost_nano_usd       bigint,
    custom_meters       jsonb       NOT NULL DEFAULT '{}',
    policy_version      text        NOT NULL DEFAULT '',
    detail              text        NOT NULL DEFAULT '',
    counter_ids         text[]      NOT NULL,
    slots               bigint[]    NOT NULL,
    held                bigint[]    NOT NULL,
    committed           bigint[]    NOT NULL,
    credit              bigint[]    NOT NULL,
    PRIMARY KEY (at, shard, epoch, stream_id, ordinal)
) PARTITION BY RANGE (at);
CREATE INDEX ledger_entries_by_org ON ledger_entries (org, at);
CREATE INDEX ledger_entries_by_reservation ON ledger_entries (reservation_id);

-- What each counter comes to. A rolling counter has a row for each time bucket, a task's for each
-- time that the task began (slot); others have slot 0.
CREATE TABLE counter_balances (
    counter_id   text    NOT NULL,
    slot         bigint  NOT NULL,
    shard        integer NOT NULL,
    kind         integer NOT NULL,
    p1           bigint  NOT NULL,
    p2           bigint  NOT NULL,
    committed    bigint  NOT NULL,
    held         bigint  NOT NULL,
    credit       bigint  NOT NULL,
    used_at_ms   bigint  NOT NULL,
    expire_at_ms bigint  NOT NULL,
    PRIMARY KEY (counter_id, slot)
) WITH (fillfactor = 80);
CREATE INDEX counter_balances_by_shard ON counter_balances (shard, expire_at_ms);

-- Holds as Redis keeps them: open ones, and ended ones for as long as they answer repeated calls.
CREATE TABLE open_holds (
    org           text    NOT NULL,
    hold_id       text    NOT NULL,
    shard         integer NOT NULL,
    state         integer NOT NULL,
    expire_at_ms  bigint  NOT NULL,
    keep_until_ms bigint  NOT NULL,
    hold          bytea   NOT NULL,
    PRIMARY KEY (org, hold_id)
) WITH (fillfactor = 70);
CREATE INDEX open_holds_by_shard ON open_holds (shard);
CREATE INDEX open_holds_ended ON open_holds (keep_until_ms) WHERE keep_until_ms > 0;

-- What was used, by hour and every level.
CREATE TABLE usage_hourly (
    hour                timestamptz NOT NULL,
    org                 text        NOT NULL,
    team                text        NOT NULL,
    feature             text        NOT NULL,
    agent               text        NOT NULL,
    "user"              text        NOT NULL,
    task                text        NOT NULL,
    provider            text        NOT NULL,
    model               text        NOT NULL,
    requests            numeric     NOT NULL DEFAULT 0,
    input_tokens        numeric     NOT NULL DEFAULT 0,
    output_tokens       numeric     NOT NULL DEFAULT 0,
    cache_read_tokens   numeric     NOT NULL DEFAULT 0,
    cache_write_tokens  numeric     NOT NULL DEFAULT 0,
    input_audio_tokens  numeric     NOT NULL DEFAULT 0,
    reasoning_tokens    numeric     NOT NULL DEFAULT 0,
    output_audio_tokens numeric     NOT NULL DEFAULT 0,
    cost_nano_usd       numeric     NOT NULL DEFAULT 0,
    unpriced            numeric     NOT NULL DEFAULT 0,
    PRIMARY KEY (org, hour, team, feature, agent, "user", task, provider, model)
);

-- What was denied, by hour: one row for each combination, however often it was tried.
CREATE TABLE denials_hourly (
    hour     timestamptz NOT NULL,
    org      text        NOT NULL,
    team     text        NOT NULL,
    feature  text        NOT NULL,
    agent    text        NOT NULL,
    "user"   text        NOT NULL,
    provider text        NOT NULL,
    model    text        NOT NULL,
    budget   text        NOT NULL,
    kind     text        NOT NULL,
    denials  bigint      NOT NULL,
    PRIMARY KEY (org, hour, team, feature, agent, "user", provider, model, budget, kind)
);

-- Journal entries that could not be read. They are kept whole, and an alarm is raised.
CREATE TABLE journal_rejects (
    shard       integer     NOT NULL,
    epoch       text        NOT NULL,
    stream_id   text        NOT NULL,
    entry       bytea       NOT NULL,
    fault       text        NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, epoch, stream_id)
);

-- Every rebuild of a shard's data in Redis, with what was at stake.
CREATE TABLE rebuilds (
    rebuild_id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard              integer     NOT NULL,
    epoch              text        NOT NULL,
    cause              text        NOT NULL,
    server_id          text        NOT NULL,
    started_at         timestamptz NOT NULL DEFAULT now(),
    finished_at        timestamptz,
    counters           bigint      NOT NULL DEFAULT 0,
    holds              bigint      NOT NULL DEFAULT 0,
    committed_nano_usd numeric     NOT NULL DEFAULT 0,
    held_nano_usd      numeric     NOT NULL DEFAULT 0,
    resent             bigint      NOT NULL DEFAULT 0
);
CREATE INDEX rebuilds_by_shard ON rebuilds (shard, started_at);

-- Servers that run. One that has not been seen for some seconds is taken for dead.
CREATE TABLE servers (
    server_id  text        PRIMARY KEY,
    address    text        NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);

-- Every version of each org's policy; the one with the highest number decides.
CREATE TABLE policies (
    org        text        NOT NULL,
    number     bigint      NOT NULL,
    version    text        NOT NULL,
    document   text        NOT NULL,
    diff       jsonb       NOT NULL DEFAULT '[]',
    reason     text        NOT NULL DEFAULT '',
    applied_by text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org, number)
);

-- Subtrees that may spend nothing. An empty level stands for every value.
CREATE TABLE freezes (
    freeze_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org       text        NOT NULL,
    team      text        NOT NULL DEFAULT '',
    feature   text        NOT NULL DEFAULT '',
    agent     text        NOT NULL DEFAULT '',
    "user"    text        NOT NULL DEFAULT '',
    task      text        NOT NULL DEFAULT '',
    reason    text        NOT NULL DEFAULT '',
    frozen_by text        NOT NULL,
    frozen_at timestamptz NOT NULL DEFAULT now(),
    lifted_by text,
    lifted_at timestamptz
);
CREATE UNIQUE INDEX freezes_in_force ON freezes (org, team, feature, agent, "user", task)
    WHERE lifted_at IS NULL;

-- Temporary changes of a counter's room, and why.
CREATE TABLE credits (
    org        text        NOT NULL,
    credit_id  text        NOT NULL,
    budget     text        NOT NULL,
    counter_id text        NOT NULL,
    amount     bigint      NOT NULL,
    expire_at  timestamptz NOT NULL,
    reason     text        NOT NULL,
    granted_by text        NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org, credit_id)
);

-- migrate:down

DROP TABLE credits, freezes, policies, servers, rebuilds, journal_rejects, denials_hourly,
    usage_hourly, open_holds, counter_balances, ledger_entries, journal_position, installation;
