-- Where the schedule of a Dag stood when it came from another team (rule 5). Its timetable goes on from there.
CREATE TABLE dag_moved (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    from_team_no BIGINT NOT NULL,
    moved_at BIGINT NOT NULL,
    -- of the last run that the timetable made there
    logical_date BIGINT,
    interval_start BIGINT,
    interval_end BIGINT,
    run_after BIGINT NOT NULL,
    partition_key TEXT,
    partition_date BIGINT,
    PRIMARY KEY (team_no, dag_id)
)
