-- Isobar, migration 5. Assets as Airflow 3.3 has them: one queue row for a Dag and an asset, events through aliases, partitions,
-- who wrote an asset's state.

-- What a Dag waits with: team_no and asset_id are the consumer's own. Since when the first event waits.
CREATE TABLE asset_waiting (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    asset_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, dag_id, asset_id)
);
INSERT INTO asset_waiting (team_no, dag_id, asset_id, created_at)
    SELECT q.team_no, q.dag_id, a.id, min(q.created_at) FROM asset_queue q JOIN asset a ON a.team_no = q.team_no
    AND a.uri = q.uri AND (q.producer_no <> q.team_no OR a.name = q.name) GROUP BY q.team_no, q.dag_id, a.id;
DROP TABLE asset_queue;
ALTER TABLE asset_waiting RENAME TO asset_queue;
CREATE INDEX asset_queue_asset ON asset_queue (team_no, asset_id);

-- since when a Dag names it: a first run does not look back further
ALTER TABLE asset_reference ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;

-- for events: the teams that may consume it, JSON list of globs; null is every team that asks
ALTER TABLE asset_event ADD COLUMN consumer_teams TEXT;

-- events by the aliases through which they came
CREATE TABLE asset_alias_event (
    team_no BIGINT NOT NULL,
    alias_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    PRIMARY KEY (team_no, alias_id, at, event_id)
);

-- partitions of assets that a Dag is to be told of and that its mappers have not seen yet.
-- team_no and asset_id are the consumer's, producer_no owns the event
CREATE TABLE asset_partition_arrival (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    producer_no BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    asset_id BIGINT NOT NULL,
    partition_key TEXT NOT NULL,
    -- the date of the producing run's partition, where the event is of that partition
    partition_date BIGINT,
    at BIGINT NOT NULL,
    PRIMARY KEY (team_no, dag_id, producer_no, event_id, asset_id)
);

-- partitions of a Dag: those that wait for more (run_id is null) and those that have their run
CREATE TABLE asset_partition_run (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    partition_key TEXT NOT NULL,
    partition_date BIGINT,
    -- the mappers under which it was collected; under others it counts no more
    fingerprint TEXT NOT NULL,
    run_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, id)
);
CREATE INDEX asset_partition_run_dag ON asset_partition_run (team_no, dag_id, partition_key, id);
CREATE INDEX asset_partition_run_pending ON asset_partition_run (team_no, dag_id, id) WHERE run_id IS NULL;

-- what arrived for a partition of a Dag. asset_id is the consumer's own
CREATE TABLE asset_partition_key (
    team_no BIGINT NOT NULL,
    partition_run_id BIGINT NOT NULL,
    asset_id BIGINT NOT NULL,
    producer_no BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    source_key TEXT NOT NULL,
    PRIMARY KEY (team_no, partition_run_id, asset_id, producer_no, event_id)
);
CREATE INDEX asset_partition_key_dag ON asset_partition_key (team_no, dag_id);

-- who wrote it last: 'task', 'watcher' or 'api'; null is not known
ALTER TABLE asset_store ADD COLUMN writer_kind TEXT;
ALTER TABLE asset_store ADD COLUMN writer_dag_id TEXT;
ALTER TABLE asset_store ADD COLUMN writer_run_id TEXT;
ALTER TABLE asset_store ADD COLUMN writer_task_id TEXT;
ALTER TABLE asset_store ADD COLUMN writer_map_index BIGINT
