-- Listeners of a team's plugins that hear of what the control plane does: what they hear, and what they are to be told.

-- The hooks that the plugins of a team implement. No row: nothing is written down for that team
CREATE TABLE team_listener (
    team_no BIGINT NOT NULL PRIMARY KEY,
    -- JSON: names of Airflow's hooks
    hooks TEXT NOT NULL
);

-- What is to be told, in its order; a row goes once it was
CREATE TABLE listener_call (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    hook TEXT NOT NULL,
    -- JSON: what the hook is called with
    arguments TEXT NOT NULL,
    -- The Dag version that a run or task instance is of, where there is one
    version_id {uuid},
    made_at BIGINT NOT NULL,
    -- The host whose listeners have it, and until when
    holder TEXT,
    claimed_until BIGINT,
    PRIMARY KEY (team_no, id)
);
