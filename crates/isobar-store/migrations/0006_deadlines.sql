-- When runs must have ended, and what is called if they have not (AIP-86). One row a run and deadline of its Dag.
CREATE TABLE deadline (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    -- Its place among the deadlines of the Dag
    number BIGINT NOT NULL,
    id {uuid} NOT NULL,
    due_at BIGINT NOT NULL,
    -- 'waiting', 'met' or 'missed'
    state TEXT NOT NULL,
    -- JSON: path, kwargs, is_async
    callback TEXT NOT NULL,
    PRIMARY KEY (team_no, dag_id, run_id, number)
);
CREATE INDEX deadline_due ON deadline (due_at) WHERE state = 'waiting';
