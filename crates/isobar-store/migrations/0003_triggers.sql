-- Isobar, migration 3: triggerers share the triggers of their team, assets have watchers, questions can be searched.

-- A triggerer of a team: one process of Python at a time. Its triggers are free again when its heartbeat stops.
CREATE TABLE triggerer (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    hostname TEXT NOT NULL,
    -- the server process that keeps it
    holder TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    heartbeat BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (team_no, id)
);

ALTER TABLE async_trigger ADD COLUMN triggerer_id BIGINT;

-- arguments that a running task gave may hold secrets: sealed with the team's data key, `kwargs` is empty then
ALTER TABLE async_trigger ADD COLUMN sealed {bytes};

-- a callback that runs in the triggerer, where the trigger is one
ALTER TABLE async_trigger ADD COLUMN callback_id BIGINT;

-- of a watcher: class and arguments, so that Dags which watch alike share one trigger
ALTER TABLE async_trigger ADD COLUMN fingerprint TEXT;
CREATE UNIQUE INDEX async_trigger_fingerprint ON async_trigger (team_no, fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX task_instance_trigger ON task_instance (team_no, trigger_id) WHERE trigger_id IS NOT NULL;

-- what a Dag's schedule says of who watches an asset
CREATE TABLE asset_watcher (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    asset_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    trigger_id BIGINT NOT NULL,
    PRIMARY KEY (team_no, dag_id, asset_id, name)
);
CREATE INDEX asset_watcher_trigger ON asset_watcher (team_no, trigger_id);

ALTER TABLE hitl_detail ADD COLUMN subject TEXT;
ALTER TABLE hitl_detail ADD COLUMN body TEXT;
ALTER TABLE hitl_detail ADD COLUMN responder_id TEXT;
ALTER TABLE hitl_detail ADD COLUMN responder_name TEXT;
