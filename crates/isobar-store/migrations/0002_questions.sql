-- Isobar, migration 2: questions that only a team's own Python can answer, and where partitioned timetables stand.

-- a question stays open (answered_at null) until the team's helper has answered it
CREATE TABLE team_question (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    -- next_run, manual_interval, instances
    kind TEXT NOT NULL,
    dag_id TEXT NOT NULL,
    -- what tells questions of one kind and Dag apart: a run id, a random text, nothing; a newer question takes the place
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    version_id {uuid},
    asked_at BIGINT NOT NULL,
    -- the helper has it, or it was put off, until then
    claimed_until BIGINT,
    attempts BIGINT NOT NULL DEFAULT 0,
    answered_at BIGINT,
    answer TEXT,
    -- why there is no answer (yet)
    problem TEXT,
    PRIMARY KEY (team_no, id)
);
CREATE UNIQUE INDEX team_question_subject ON team_question (team_no, dag_id, kind, subject);
CREATE INDEX team_question_open ON team_question (team_no, id) WHERE answered_at IS NULL;

-- what is known of a team's Python
CREATE TABLE team_python (
    team_no BIGINT NOT NULL PRIMARY KEY,
    -- its cluster policy has a task_instance_mutation_hook
    shapes_instances BOOLEAN NOT NULL
);

ALTER TABLE dag ADD COLUMN next_partition_key TEXT;
ALTER TABLE dag ADD COLUMN next_partition_date BIGINT;

-- the number of clears of its run for which the team's Python said its pool, queue, priority and so on; null: it did not
ALTER TABLE task_instance ADD COLUMN shaped_for BIGINT;
CREATE INDEX dag_run_partition ON dag_run (team_no, dag_id, partition_date, run_after) WHERE partition_key IS NOT NULL;
