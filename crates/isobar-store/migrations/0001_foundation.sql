-- Isobar, migration 1. Every team-owned table starts its primary key with team_no.
-- Instants are BIGINT microseconds since 1970 UTC. JSON is TEXT. Ids that Airflow's API shows as integers are
-- team_no * 2^36 + a counter of that team (table team_counter).

CREATE TABLE isobar_migration (
    number BIGINT PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE team (
    team_no BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- 'active' or 'archived'
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    archived_at BIGINT,
    -- tokens minted under an older epoch are dead: `isobar teams revoke-tokens`
    token_epoch BIGINT NOT NULL DEFAULT 0,
    -- the team's data key, sealed with the organisation's master key
    sealed_data_key {bytes}
);

-- the organisation's own: what it shares with every team belongs to this row, which is no team
INSERT INTO team (team_no, name, state, created_at) VALUES (-1, 'shared', 'organisation', 0);

CREATE TABLE team_counter (
    team_no BIGINT NOT NULL,
    kind TEXT NOT NULL,
    next BIGINT NOT NULL,
    PRIMARY KEY (team_no, kind)
);

CREATE TABLE revoked_token (
    jti TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE bundle (
    team_no BIGINT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    version TEXT,
    last_refreshed BIGINT,
    PRIMARY KEY (team_no, name)
);

CREATE TABLE dag_file (
    team_no BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    rel_path TEXT NOT NULL,
    mtime_ns BIGINT NOT NULL,
    size BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    parsed_at BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (team_no, bundle, rel_path)
);

CREATE TABLE dag (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    bundle TEXT NOT NULL,
    rel_path TEXT NOT NULL,
    fileloc TEXT NOT NULL,
    is_paused BOOLEAN NOT NULL,
    is_stale BOOLEAN NOT NULL,
    last_parsed BIGINT,
    last_parse_seconds DOUBLE PRECISION,
    last_expired BIGINT,
    owners TEXT,
    display_name TEXT,
    description TEXT,
    timetable_type TEXT NOT NULL,
    timetable_summary TEXT,
    timetable_description TEXT,
    timetable_partitioned BOOLEAN NOT NULL DEFAULT FALSE,
    timetable_periodic BOOLEAN NOT NULL DEFAULT FALSE,
    asset_expression TEXT,
    max_active_tasks BIGINT NOT NULL,
    max_active_runs BIGINT NOT NULL,
    max_consecutive_failed_runs BIGINT NOT NULL,
    has_task_concurrency_limits BOOLEAN NOT NULL,
    has_import_errors BOOLEAN NOT NULL DEFAULT FALSE,
    fail_fast BOOLEAN NOT NULL DEFAULT FALSE,
    allowed_run_types TEXT,
    access_control TEXT,
    -- the timetable's position; next_create_after is when the next run is due
    next_logical_date BIGINT,
    next_interval_start BIGINT,
    next_interval_end BIGINT,
    next_create_after BIGINT,
    exceeds_max_runs BOOLEAN NOT NULL DEFAULT FALSE,
    current_version_id {uuid},
    current_version_number BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (team_no, dag_id)
);
CREATE INDEX dag_due ON dag (next_create_after) WHERE next_create_after IS NOT NULL AND is_paused = FALSE AND is_stale = FALSE;
CREATE INDEX dag_by_file ON dag (team_no, bundle, rel_path);

CREATE TABLE dag_tag (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (team_no, dag_id, tag)
);

CREATE TABLE dag_owner_link (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    link TEXT NOT NULL,
    PRIMARY KEY (team_no, dag_id, owner)
);

CREATE TABLE dag_favorite (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    user_name TEXT NOT NULL,
    PRIMARY KEY (team_no, dag_id, user_name)
);

CREATE TABLE dag_version (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    version_number BIGINT NOT NULL,
    id {uuid} NOT NULL,
    bundle TEXT NOT NULL,
    bundle_version TEXT,
    created_at BIGINT NOT NULL,
    last_updated BIGINT NOT NULL,
    hash TEXT NOT NULL,
    -- the serialized Dag, `{"__version":3,"dag":{...}}`
    data TEXT NOT NULL,
    fileloc TEXT NOT NULL,
    source_code TEXT NOT NULL,
    PRIMARY KEY (team_no, dag_id, version_number)
);
CREATE UNIQUE INDEX dag_version_id ON dag_version (id);

CREATE TABLE import_error (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    rel_path TEXT NOT NULL,
    at BIGINT NOT NULL,
    stack_trace TEXT NOT NULL,
    PRIMARY KEY (team_no, id)
);
CREATE UNIQUE INDEX import_error_file ON import_error (team_no, bundle, rel_path);

-- parses that were refused because of a pool (rule 18), kept to be looked at again when pools change
CREATE TABLE held_parse (
    team_no BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    rel_path TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (team_no, bundle, rel_path)
);

CREATE TABLE dag_warning (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    warning_type TEXT NOT NULL,
    message TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (team_no, dag_id, warning_type)
);

CREATE TABLE dag_run (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    -- a team-private number: orders runs and joins nothing across teams
    id BIGINT NOT NULL,
    -- every change of state in the run adds one
    rev BIGINT NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    run_type TEXT NOT NULL,
    triggered_by TEXT,
    triggering_user TEXT,
    conf TEXT,
    note TEXT,
    note_user TEXT,
    logical_date BIGINT,
    interval_start BIGINT,
    interval_end BIGINT,
    run_after BIGINT NOT NULL,
    queued_at BIGINT,
    start_date BIGINT,
    end_date BIGINT,
    last_decision BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    clear_number BIGINT NOT NULL DEFAULT 0,
    bundle_version TEXT,
    created_version_id {uuid},
    partition_key TEXT,
    partition_date BIGINT,
    backfill_id BIGINT,
    -- the caller that a cross-team trigger ran for: team number of the requesting team
    requested_by_team BIGINT,
    PRIMARY KEY (team_no, dag_id, run_id)
);
CREATE INDEX dag_run_active ON dag_run (team_no, dag_id, state) WHERE state IN ('queued', 'running');
CREATE INDEX dag_run_recent ON dag_run (team_no, dag_id, run_after, id);
CREATE UNIQUE INDEX dag_run_logical ON dag_run (team_no, dag_id, logical_date);
CREATE INDEX dag_run_started ON dag_run (team_no, start_date);
CREATE UNIQUE INDEX dag_run_number ON dag_run (team_no, id);

CREATE TABLE task_instance (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index BIGINT NOT NULL,
    id {uuid} NOT NULL,
    state TEXT,
    -- the fencing number: each hand-out to an executor mints the next
    dispatch BIGINT NOT NULL DEFAULT 0,
    -- TRUE between the terminal commit and the end of the child (or 30 s): the token may still read
    finishing_until BIGINT,
    try_number BIGINT NOT NULL DEFAULT 0,
    max_tries BIGINT NOT NULL DEFAULT 0,
    start_date BIGINT,
    end_date BIGINT,
    duration DOUBLE PRECISION,
    scheduled_at BIGINT,
    queued_at BIGINT,
    last_heartbeat BIGINT,
    updated_at BIGINT NOT NULL,
    hostname TEXT,
    unixname TEXT,
    pid BIGINT,
    pool TEXT NOT NULL,
    pool_slots BIGINT NOT NULL,
    queue TEXT,
    priority_weight BIGINT NOT NULL,
    operator TEXT,
    custom_operator_name TEXT,
    display_name TEXT,
    executor TEXT,
    executor_config TEXT,
    dag_version_id {uuid},
    rendered_map_index TEXT,
    note TEXT,
    note_user TEXT,
    -- when a retry or a reschedule is due
    next_start BIGINT,
    retry_delay_override DOUBLE PRECISION,
    retry_reason TEXT,
    next_method TEXT,
    next_kwargs TEXT,
    trigger_id BIGINT,
    trigger_timeout BIGINT,
    -- JSON list: keys that the next start clears, from a clear of the task
    xcom_keys_to_clear TEXT,
    external_executor_id TEXT,
    PRIMARY KEY (team_no, dag_id, run_id, task_id, map_index)
);
CREATE UNIQUE INDEX task_instance_id ON task_instance (id);
CREATE INDEX task_instance_active ON task_instance (team_no, dag_id, state)
    WHERE state IN ('scheduled', 'queued', 'running', 'restarting', 'up_for_retry', 'up_for_reschedule', 'deferred', 'awaiting_input');

CREATE TABLE task_instance_history (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index BIGINT NOT NULL,
    try_number BIGINT NOT NULL,
    id {uuid} NOT NULL,
    state TEXT,
    max_tries BIGINT NOT NULL,
    start_date BIGINT,
    end_date BIGINT,
    duration DOUBLE PRECISION,
    scheduled_at BIGINT,
    queued_at BIGINT,
    hostname TEXT,
    unixname TEXT,
    pid BIGINT,
    pool TEXT NOT NULL,
    pool_slots BIGINT NOT NULL,
    queue TEXT,
    priority_weight BIGINT NOT NULL,
    operator TEXT,
    custom_operator_name TEXT,
    display_name TEXT,
    executor TEXT,
    executor_config TEXT,
    dag_version_id {uuid},
    rendered_map_index TEXT,
    PRIMARY KEY (team_no, dag_id, run_id, task_id, map_index, try_number)
);
CREATE UNIQUE INDEX task_instance_history_id ON task_instance_history (id);

CREATE TABLE task_reschedule (
    team_no BIGINT NOT NULL,
    ti_id {uuid} NOT NULL,
    ordinal BIGINT NOT NULL,
    start_date BIGINT NOT NULL,
    end_date BIGINT NOT NULL,
    reschedule_date BIGINT NOT NULL,
    PRIMARY KEY (team_no, ti_id, ordinal)
);

CREATE TABLE xcom (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    at BIGINT NOT NULL,
    dag_result BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (team_no, dag_id, run_id, task_id, map_index, key)
);

-- how many values a task returned for its mapped downstream
CREATE TABLE task_map (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index BIGINT NOT NULL,
    length BIGINT NOT NULL,
    PRIMARY KEY (team_no, dag_id, run_id, task_id, map_index)
);

CREATE TABLE rendered_fields (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index BIGINT NOT NULL,
    fields TEXT NOT NULL,
    PRIMARY KEY (team_no, dag_id, run_id, task_id, map_index)
);

CREATE TABLE task_store (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (team_no, dag_id, run_id, task_id, map_index, key)
);

CREATE TABLE hitl_detail (
    team_no BIGINT NOT NULL,
    ti_id {uuid} NOT NULL,
    detail TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    responded_at BIGINT,
    response TEXT,
    PRIMARY KEY (team_no, ti_id)
);

-- what deferred task instances wait for; kwargs is the JSON (or sealed text) that the task gave
CREATE TABLE async_trigger (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    classpath TEXT NOT NULL,
    kwargs TEXT NOT NULL,
    queue TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, id)
);

CREATE TABLE variable (
    team_no BIGINT NOT NULL,
    key TEXT NOT NULL,
    id BIGINT NOT NULL,
    sealed {bytes} NOT NULL,
    description TEXT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, key)
);

CREATE TABLE connection (
    team_no BIGINT NOT NULL,
    conn_id TEXT NOT NULL,
    id BIGINT NOT NULL,
    conn_type TEXT NOT NULL,
    description TEXT,
    host TEXT,
    schema_name TEXT,
    login TEXT,
    port BIGINT,
    -- password and extra, sealed with the team's data key; null where absent
    sealed_password {bytes},
    sealed_extra {bytes},
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, conn_id)
);

CREATE TABLE pool (
    team_no BIGINT NOT NULL,
    name TEXT NOT NULL,
    id BIGINT NOT NULL,
    -- -1 is without end
    slots BIGINT NOT NULL,
    description TEXT,
    include_deferred BOOLEAN NOT NULL,
    PRIMARY KEY (team_no, name)
);

CREATE TABLE asset (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    name TEXT NOT NULL,
    uri TEXT NOT NULL,
    asset_group TEXT NOT NULL,
    extra TEXT NOT NULL,
    access_control TEXT,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, id)
);
CREATE UNIQUE INDEX asset_name ON asset (team_no, name, uri);
CREATE INDEX asset_uri ON asset (uri);

CREATE TABLE asset_alias (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    name TEXT NOT NULL,
    alias_group TEXT NOT NULL,
    PRIMARY KEY (team_no, id)
);
CREATE UNIQUE INDEX asset_alias_name ON asset_alias (team_no, name);

-- which assets an alias has stood for so far
CREATE TABLE asset_alias_asset (
    team_no BIGINT NOT NULL,
    alias_id BIGINT NOT NULL,
    asset_id BIGINT NOT NULL,
    PRIMARY KEY (team_no, alias_id, asset_id)
);

-- what a Dag's schedule, inlets and outlets name: role is 'schedule', 'inlet' or 'outlet';
-- kind is 'asset', 'alias', 'name_ref' or 'uri_ref'; task_id is '' for the Dag's schedule
CREATE TABLE asset_reference (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uri TEXT NOT NULL,
    -- for schedules: the producing teams that this Dag accepts beside its own, JSON list of globs
    producer_teams TEXT,
    -- for outlets: the teams that may consume what this task produces, JSON list of globs; null is every team that asks
    consumer_teams TEXT,
    PRIMARY KEY (team_no, dag_id, task_id, role, kind, name, uri)
);
CREATE INDEX asset_reference_name ON asset_reference (role, name);
CREATE INDEX asset_reference_uri ON asset_reference (role, uri);

CREATE TABLE asset_event (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    asset_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    extra TEXT NOT NULL,
    source_dag_id TEXT,
    source_run_id TEXT,
    source_task_id TEXT,
    source_map_index BIGINT,
    -- the aliases through which it came, JSON list of names
    source_aliases TEXT,
    partition_key TEXT,
    PRIMARY KEY (team_no, id)
);
CREATE INDEX asset_event_asset ON asset_event (team_no, asset_id, at);
CREATE INDEX asset_event_source ON asset_event (team_no, source_dag_id, source_run_id);

-- events that wait for a consumer Dag's condition. team_no is the consumer's; producer_no owns asset and event
CREATE TABLE asset_queue (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    producer_no BIGINT NOT NULL,
    asset_id BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    uri TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, dag_id, producer_no, event_id)
);

-- what a run consumed. team_no is the consumer's
CREATE TABLE dag_run_asset_event (
    team_no BIGINT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    producer_no BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    PRIMARY KEY (team_no, dag_id, run_id, producer_no, event_id)
);
CREATE INDEX dag_run_asset_event_source ON dag_run_asset_event (producer_no, event_id);

CREATE TABLE asset_store (
    team_no BIGINT NOT NULL,
    asset_id BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (team_no, asset_id, key)
);

-- what happened and some scheduler has yet to act on; acknowledged by deletion in the transaction of its consequence.
-- seq only orders within one reading: sequences commit out of order
CREATE TABLE event (
    seq {serial},
    team_no BIGINT NOT NULL,
    -- 'run' (a run changed), 'dag' (a Dag, its schedule or its asset queue changed), 'team', 'pool', 'request'
    kind TEXT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    -- the run's revision after the change, 0 where it is no run's
    rev BIGINT NOT NULL,
    body TEXT NOT NULL,
    made_at BIGINT NOT NULL
);

-- what one team asks of another by consent; a scheduler carries it out under OrgScope while the caller waits
CREATE TABLE cross_team_request (
    id {uuid} PRIMARY KEY,
    team_no BIGINT NOT NULL,
    target_no BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    answer TEXT
);

CREATE TABLE callback (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    rel_path TEXT NOT NULL,
    request TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    claimed_until BIGINT,
    PRIMARY KEY (team_no, id)
);

-- Airflow's event log: who changed what. owner is the actor
CREATE TABLE audit (
    team_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    owner TEXT,
    dag_id TEXT,
    run_id TEXT,
    task_id TEXT,
    map_index BIGINT,
    try_number BIGINT,
    logical_date BIGINT,
    extra TEXT,
    PRIMARY KEY (team_no, id)
);
CREATE INDEX audit_dag ON audit (team_no, dag_id, at)
