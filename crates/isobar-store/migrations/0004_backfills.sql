-- Backfills: runs over dates of the past, made at once and started in their order.

CREATE TABLE backfill (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    from_date BIGINT NOT NULL,
    to_date BIGINT NOT NULL,
    -- the runs' conf, null where none was given
    conf TEXT,
    is_paused BOOLEAN NOT NULL DEFAULT FALSE,
    -- 'none', 'failed' or 'completed'
    reprocess TEXT NOT NULL,
    max_active_runs BIGINT NOT NULL,
    triggering_user TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- set when none of its runs is queued or running any more, or when it is cancelled
    completed_at BIGINT,
    PRIMARY KEY (team_no, id)
);
-- one at a time for each Dag
CREATE UNIQUE INDEX backfill_open ON backfill (team_no, dag_id) WHERE completed_at IS NULL;
CREATE INDEX backfill_dag ON backfill (team_no, dag_id, id);

-- what became of each date: a run, or the reason why there is none
CREATE TABLE backfill_run (
    team_no BIGINT NOT NULL,
    backfill_id BIGINT NOT NULL,
    -- from 1, in the order in which the runs start
    ordinal BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT,
    logical_date BIGINT,
    partition_key TEXT,
    -- 'in flight' or 'already exists'
    reason TEXT,
    PRIMARY KEY (team_no, backfill_id, ordinal)
);
CREATE INDEX backfill_run_dag ON backfill_run (team_no, dag_id, run_id);

-- the run's place in the backfill that dag_run.backfill_id names
ALTER TABLE dag_run ADD COLUMN backfill_ordinal BIGINT;
CREATE INDEX dag_run_backfill ON dag_run (team_no, backfill_id) WHERE backfill_id IS NOT NULL
