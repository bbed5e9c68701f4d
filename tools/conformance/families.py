"""How each Dag is run: Dags that hang together are a family, whose steps follow one another.

A Dag that is named nowhere here is a family of its own: it is triggered by hand, then unpaused, which gives it its first
scheduled run as well where it has a schedule.
"""

from __future__ import annotations

import re

# A Wednesday, an even minute, long past: what depends on the logical date comes out alike on every day.
LOGICAL_DATE = "2024-03-06T10:20:30Z"


def on(*dags: str) -> tuple:
    """Unpauses."""
    return ("on", dags)


def run(dag: str, name: str = "conformance", **body) -> tuple:
    """Triggers a run by hand."""
    return ("run", dag, {"dag_run_id": name, "logical_date": LOGICAL_DATE, "conf": {}, **body})


def dates(day: int) -> dict:
    return {"logical_date": f"2024-03-{day:02}T10:20:30Z"}


def clear(dag: str, *tasks, name: str = "conformance", **body) -> tuple:
    """Clears tasks, (task, index)s or, without any, the whole of a run, and what is below."""
    given = {"task_ids": [list(task) if isinstance(task, tuple) else task for task in tasks]} if tasks else {}
    usual = {"dry_run": False, "dag_run_id": name, "only_failed": False, "reset_dag_runs": True, "include_downstream": True}
    return ("clear", dag, {**usual, **given, **body})


SETTLE = ("settle",)  # waits until every run of the family has ended


def settle(seconds: float) -> tuple:
    """The same where the next run may come that much later."""
    return ("settle", seconds)


def read_again(dag: str) -> tuple:
    """Asks for the Dag's file to be read again."""
    return ("parse", dag)


def partition(dag: str, key: str) -> tuple:
    """Triggers a run of one partition."""
    name = "conformance." + re.sub(r"[^A-Za-z0-9-]+", ".", key)
    return ("run", dag, {"dag_run_id": name, "logical_date": None, "conf": {}, "partition_key": key})


def alias(suffix: str) -> list:
    producer, through_alias = f"asset_s3_bucket_producer{suffix}", f"asset_alias_example_alias_producer{suffix}"
    return [
        on(f"asset_s3_bucket_consumer{suffix}", f"asset_alias_example_alias_consumer{suffix}", producer, through_alias),
        run(producer),
        SETTLE,
        run(through_alias),
        SETTLE,
        # By now the alias stands for an asset.
        run(through_alias, "conformance.2", **dates(7)),
        SETTLE,
    ]


def dags_of(step: tuple) -> tuple:
    """The Dags that a step touches."""
    return step[1] if step[0] == "on" else (step[1],) if step[0] == "run" else ()


FAMILIES: dict[str, list] = {
    "example_assets": [
        on(
            "asset_consumes_1",
            "asset_consumes_1_and_2",
            "asset_consumes_1_never_scheduled",
            "asset_consumes_unknown_never_scheduled",
            "consume_1_and_2_with_asset_expressions",
            "consume_1_or_2_with_asset_expressions",
            "consume_1_or_both_2_and_3_with_asset_expressions",
            "conditional_asset_and_time_based_timetable",
        ),
        SETTLE,
        on("asset_produces_1"),
        SETTLE,
        run("asset_produces_2"),
        on("asset_produces_2"),
        SETTLE,
    ],
    # One family: in the end both files' aliases stand for the same asset.
    "example_asset_alias": [*alias(""), *alias("_with_no_taskflow")],
    "example_asset_allow_teams": [on("team_ml_consumer"), on("team_analytics_producer"), SETTLE],
    "example_asset_decorator": [
        on("consumes_asset_decorator", "asset1_producer", "asset2_producer"),
        run("asset1_producer"),
        SETTLE,
        run("asset2_producer"),
        SETTLE,
    ],
    "example_outlet_and_inlet_event_extra": [
        on("asset_with_extra_by_yield"),
        SETTLE,
        on("asset_with_extra_by_context"),
        SETTLE,
        on("asset_with_extra_from_classic_operator"),
        SETTLE,
        # It gives the same asset another name. Whichever name comes second is inactive, so the order has to be one.
        ("file", "core/example_inlet_event_extra.py"),
        on("read_asset_event", "read_asset_event_from_classic"),
        SETTLE,
    ],
    "example_asset_state_store": [
        on("example_asset_state_store_consumer", "example_asset_state_store_producer"),
        run("example_asset_state_store_producer"),
        SETTLE,
        run("example_asset_state_store_producer", "conformance.2", **dates(7)),
        SETTLE,
    ],
    "example_asset_partition": [
        on(
            "clean_and_combine_player_stats",
            "compute_player_odds",
            "player_odds_quality_check_wont_ever_to_trigger",
            "aggregate_regional_sales",
            "regional_stats_breakdown",
            "summarize_live_region_stats",
            "daily_team_a_rollup",
            "monthly_team_a_rollup",
            "daily_inference",
            "trailing_week_inference",
            "segment_region_stats_rollup",
            "segment_region_stats_early_rollup",
            "scatter_live_region_to_segments",
            "ingest_team_a_player_stats",
            "team_b_player_stats",
            "team_c_player_stats",
            "ingest_regional_sales",
            "ingest_region_stats",
            "live_region_player_stats",
            "multi_region_player_stats",
            "train_weekly_model",
        ),
        SETTLE,
        partition("ingest_team_a_player_stats", "2024-03-06T10:00:00"),
        SETTLE,
        partition("team_b_player_stats", "2024-03-06T10:15:00"),
        SETTLE,
        partition("team_c_player_stats", "2024-03-06T10:30:00"),
        SETTLE,
        partition("ingest_region_stats", "us"),
        SETTLE,
        partition("ingest_region_stats", "mars"),
        SETTLE,
        run("ingest_regional_sales", logical_date=None),
        run("live_region_player_stats", logical_date=None),
        run("multi_region_player_stats", logical_date=None),
        SETTLE,
        partition("train_weekly_model", "2024-03-04T00:00:00"),
        SETTLE,
    ],
    "example_asset_with_watchers": [
        on("example_asset_with_watchers"),
        # Airflow has watchers for assets of Dags that are not paused, as of the next time that it reads their file.
        read_again("example_asset_with_watchers"),
        SETTLE,
        run("own_flags"),
        on("own_flags"),
        settle(45),
    ],
    "example_trigger_dag": [
        on("example_trigger_target_dag"),
        run("example_trigger_target_dag", conf={"message": "by hand"}),
        SETTLE,
        run("example_trigger_controller_dag"),
        on("example_trigger_controller_dag"),
        SETTLE,
    ],
    "example_external_task": [
        on("child_dag"),
        SETTLE,
        run("example_external_task"),
        on("example_external_task"),
        SETTLE,
    ],
    "example_params_ui_tutorial": [
        run("example_params_ui_tutorial", conf={"required_field": "given by hand"}),
        on("example_params_ui_tutorial"),
        SETTLE,
    ],
    "own_parent": [on("own_child"), run("own_parent"), on("own_parent"), SETTLE],
    "own_external_sensor": [
        run("own_child_by_date"),
        on("own_child_by_date"),
        SETTLE,
        run("own_external_sensor"),
        on("own_external_sensor"),
        SETTLE,
    ],
    "own_callbacks": [
        run("own_callbacks"),
        run("own_callbacks_fine"),
        run("own_callbacks_break"),
        on("own_callbacks", "own_callbacks_fine", "own_callbacks_break"),
        SETTLE,
        run("own_callbacks_read"),
        on("own_callbacks_read"),
        SETTLE,
    ],
    "own_templates": [
        run("own_templates", conf={"given": "by hand", "count": 8}),
        on("own_templates"),
        SETTLE,
    ],
    # Their runs are all in the past, and are all made.
    "own_past": [on("own_past"), SETTLE],
    "own_past_fails": [on("own_past_fails"), SETTLE],
    "own_catchup_hours": [on("own_catchup_hours"), SETTLE],
    "example_external_task_marker": [
        run("example_external_task_marker_parent"),
        run("example_external_task_marker_child"),
        on("example_external_task_marker_parent", "example_external_task_marker_child"),
        SETTLE,
    ],
}

FAMILIES |= {
    "own_again_lengths": [
        # Not from 0 to 2: which of `twice` go is then a matter of which of `double` ends first.
        run("own_again_lengths", conf={"n": [2, 3, 1, 0, 1, 4]}),
        on("own_again_lengths"),
        SETTLE,
        *[step for _ in range(5) for step in (clear("own_again_lengths", "lengths"), SETTLE)],
        run("own_again_lengths", "conformance.2", conf={"n": [2, 3, 1]}, **dates(7)),
        SETTLE,
        # The new length is not seen before something that is mapped over it runs.
        clear("own_again_lengths", "lengths", name="conformance.2", include_downstream=False),
        SETTLE,
        clear("own_again_lengths", ("double", 0), name="conformance.2", include_downstream=False),
        SETTLE,
        clear("own_again_lengths", "lengths", name="conformance.2", include_downstream=False),
        SETTLE,
        clear("own_again_lengths", "group.first", name="conformance.2"),
        SETTLE,
    ],
    "own_again_parts": [
        run("own_again_parts", conf={"n": [4], "heed": {"fail": [10], "skip": [20]}}),
        run("own_again_parts", "conformance.2", conf={"n": [2], "heed": {"skip": [0, 10]}}, **dates(7)),
        run("own_again_parts", "conformance.3", conf={"n": [3], "heed": {"fail": [0, 10, 20]}}, **dates(8)),
        run("own_again_parts", "conformance.4", conf={"n": [3], "deeper": {"fail": [10], "skip": [0]}}, **dates(9)),
        on("own_again_parts"),
        SETTLE,
        clear("own_again_parts", ("heed", 1)),
        clear("own_again_parts", ("heed", 0), name="conformance.2", include_downstream=False),
        clear("own_again_parts", name="conformance.3", only_failed=True),
        clear("own_again_parts", ("deeper", 1), name="conformance.4", include_upstream=True),
        SETTLE,
    ],
    "own_again_group": [
        run("own_again_group", conf={"n": [3], "first": {"fail": [10], "skip": [20]}}),
        run("own_again_group", "conformance.2", conf={"n": [2], "first": {"skip": [0, 10]}}, **dates(7)),
        run("own_again_group", "conformance.3", conf={"n": [2], "first": {"fail": [0, 10]}}, **dates(8)),
        run("own_again_group", "conformance.4", conf={"n": [0, 2]}, **dates(9)),
        on("own_again_group"),
        SETTLE,
        clear("own_again_group", ("ruled.first", 1)),
        clear("own_again_group", name="conformance.3", only_failed=True),
        clear("own_again_group", name="conformance.4"),
        SETTLE,
    ],
    "own_again_filters": [run("own_again_filters", conf={"n": [3]}), on("own_again_filters"), SETTLE],
    "own_again_setups": [
        run("own_again_setups", conf={"n": [3], "heed": {"fail": [10], "skip": [20]}}),
        run("own_again_setups", "conformance.2", conf={"n": [3], "make": [10]}, **dates(7)),
        on("own_again_setups"),
        SETTLE,
        clear("own_again_setups", ("with_setup.heed", 1)),
        clear("own_again_setups", ("with_setup.heed", 0), name="conformance.2"),
        SETTLE,
    ],
    "own_again_branches": [run("own_again_branches", conf={"n": [4]}), on("own_again_branches"), SETTLE],
    "own_again_past": [on("own_again_past"), SETTLE],
    "own_again_waits": [on("own_again_waits"), SETTLE],
    "own_again_latest": [
        run("own_again_latest", **dates(2)),
        on("own_again_latest"),
        SETTLE,
        clear("own_again_latest", "latest"),
        SETTLE,
    ],
    "own_again_tries": [run("own_again_tries", conf={"n": [2]}), on("own_again_tries"), SETTLE, clear("own_again_tries"), SETTLE],
    "own_again_dates": [
        *[run("own_again_dates", f"conformance.{month}", logical_date=f"2024-{month:02}-15T00:00:00Z") for month in (1, 2, 3)],
        on("own_again_dates"),
        SETTLE,
    ],
}

MAPPED = ("prefix", "split", "split_two", "dated", "carried", "chain", "product", "rollup", "rollup_all", "workdays")
FAMILIES["own_map_source"] = [
    on("own_map_source", *(f"own_map_{name}" for name in MAPPED)),
    *[
        step
        for keys in (
            ("eu::a", "us::b", "c+d", "6+e+f"),
            ("7", "2024-03-02"),
            ("8", "2024-03-01"),
            ("2024-03-04", "6", "raises", "none", "eu::g+h"),
            ("i+i", "60", "eu::9"),
            ("61", "91", "eu::p|7"),
        )
        for step in (*[partition("own_map_source", key) for key in keys], SETTLE)
    ],
]

# Dag files that come only when their family says so, with their Dags.
LATER = {"core/example_inlet_event_extra.py": {"read_asset_event", "read_asset_event_from_classic"}}

# What people answer to tasks that ask them: (Dag, task) -> the body of the answer.
ANSWERS = {
    ("example_hitl_operator", "wait_for_input"): {
        "chosen_options": ["OK"],
        "params_input": {"information": "all is well"},
    },
    ("example_hitl_operator", "wait_for_option"): {"chosen_options": ["option 2"]},
    ("example_hitl_operator", "wait_for_multiple_options"): {"chosen_options": ["option 4", "option 6"]},
    ("example_hitl_operator", "valid_input_and_options"): {"chosen_options": ["Approve"]},
    ("example_hitl_operator", "choose_a_branch_to_run"): {"chosen_options": ["task_2"]},
}

# Scheduled runs to be compared; 1 where a Dag is not named.
SCHEDULED = {
    # Whether parent and child get the same date depends on the second in which each was unpaused.
    "example_external_task_marker_parent": 0,
    "example_external_task_marker_child": 0,
    # Its branch goes by the minute.
    "example_branch_dop_operator_v3": 0,
    "own_past": 9,
    "own_past_fails": 9,
    "own_catchup_hours": 9,
    "own_again_past": 9,
    "own_again_waits": 9,
    "own_again_latest": 9,
}

# Dags that are parsed and compared as Dags, but not run.
NOT_RUN = {
    "example_dag_decorator": "asks httpbingo.org",
    "example_retry_policy": "asks api.example.com",
    "tutorial_objectstorage": "asks open-meteo.com, writes to S3, wants pandas and duckdb",
}

# Dags whose tasks install from a package index.
INDEX = {
    "example_branch_operator",
    "example_branch_python_operator_decorator",
    "example_python_decorator",
    "example_python_operator",
    "tutorial_taskflow_api_virtualenv",
}

# Tasks that wait for an hour or more: their runs are compared while they wait.
LEFT_WAITING = {
    "example_sensors": {"timeout_after_second_date_in_the_future_async", "print_date_in_bash"},
    # Of the second day, for the first.
    "own_again_waits": {"waits_to_skip", "after_skips", "waits_for_below", "fails"},
}

# Families that take longer than a test may; `make conformance` runs them.
SLOW = {
    "example_external_task_marker": "a sensor for a group that does not exist gives up after 600 s",
    "example_sensors": "its sensors look once a minute; two of its tasks need a `/tmp` of their own, which not every machine allows",
    "example_asset_with_watchers": "its watchers wait for files in `/tmp`, which not every machine allows",
    "own_run_too_slow": "its run is given two minutes",
}

# Tasks whose later indices are made, and start, when their first does: what is above may have ended by then, or not.
EITHER_ORDER = {("own_again_lengths", "group.second")}

# Branches taken by chance: whatever was taken is renamed to the first.
CHANCE = {
    "example_branch_operator": [
        ("branch_", "follow_"),
        ("ext_py_",),
        ("venv_",),
    ],
    "example_branch_python_operator_decorator": [("branch_", "follow_"), ("ext_py_",), ("venv_",)],
}

# XComs that are a matter of chance: only their kind is compared.
ANY_VALUE = {
    ("example_asset_state_store_producer", "load"),
    ("example_task_state_store", "run_job"),
    ("example_task_state_store_mapped", "process_table"),
}

# What comes out differently by the clock: compared where both runs were made in the same class of time.
BY_CLOCK = {
    "example_weekday_branch_operator": "weekday",
    "example_sensors": "weekday",
    "example_branch_datetime_operator_2": "half of day",
}


def families(dags: list[str]) -> dict[str, list]:
    """The steps for all these Dags, by the name of their family."""
    found = dict(FAMILIES)
    named = {dag for steps in FAMILIES.values() for step in steps for dag in dags_of(step)}
    for dag in dags:
        if dag not in named and dag not in NOT_RUN:
            found[dag] = [run(dag), on(dag), SETTLE]
    return found
