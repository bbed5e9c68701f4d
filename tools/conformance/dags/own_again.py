"""What is mapped anew when it is cleared; rules in and after mapped groups; the past, over several runs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.sdk import DAG, TaskGroup, setup, task, task_group, teardown
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException


@task
def lengths(dag_run=None, ti=None):
    """As many as the run's conf says for this try."""
    told = dag_run.conf.get("n", [2])
    return [10 * number for number in range(told[min(ti.try_number, len(told)) - 1])]


@task
def double(x):
    return 2 * x


@task
def total(values):
    return sum(values)


@task
def heed(x, dag_run=None, ti=None):
    """Fails or skips where the run's conf says so, at the first try."""
    told = dag_run.conf.get(ti.task_id.rpartition(".")[2], {}) if ti.try_number == 1 else {}
    if x in told.get("fail", []):
        raise AirflowFailException(x)
    if x in told.get("skip", []):
        raise AirflowSkipException(x)
    return x


with DAG(dag_id="own_again_lengths", schedule=None, tags=["own"]):
    given = lengths()
    doubled = double.expand(x=given)
    total(doubled)
    total.override(task_id="anyway", trigger_rule="all_done")(doubled)
    double.override(task_id="twice").expand(x=doubled)
    double.override(task_id="crossed").expand_kwargs(given.map(lambda x: {"x": x + 1}))

    @task_group
    def group(x):
        double.override(task_id="first")(x) >> EmptyOperator(task_id="second")

    group.expand(x=given) >> EmptyOperator(task_id="below", trigger_rule="none_failed")

with DAG(dag_id="own_again_parts", schedule=None, tags=["own"]):
    listed = lengths()
    heeded = heed.expand(x=listed)
    heed.override(task_id="deeper").expand(x=heeded)
    total(heeded)
    EmptyOperator(task_id="one", trigger_rule="one_success") << heeded
    EmptyOperator(task_id="bad", trigger_rule="one_failed") << heeded
    EmptyOperator(task_id="min_one", trigger_rule="all_done_min_one_success") << heeded
    EmptyOperator(task_id="none_skipped", trigger_rule="none_skipped") << heeded

with DAG(dag_id="own_again_group", schedule=None, tags=["own"]):
    items = lengths()

    @task_group
    def ruled(x):
        first = heed.override(task_id="first")(x)
        for rule in ("all_done", "one_failed", "none_failed", "all_skipped", "one_done", "all_failed", "none_skipped"):
            first >> heed.override(task_id=rule, trigger_rule=rule)(x)

    made = ruled.expand(x=items)
    for rule in ("all_success", "all_done", "one_success", "one_failed", "none_failed", "one_done", "none_failed_min_one_success"):
        EmptyOperator(task_id=f"after_{rule}", trigger_rule=rule) << made

with DAG(dag_id="own_again_filters", schedule=None, tags=["own"]):

    def not_one(x):
        if x == 10:
            raise AirflowSkipException("not ten")
        return x + 1

    @task
    def texts():
        return {"a": 1, "b": 2, "c": 3}

    @task
    def none_there():
        return []

    @task
    def show(x):
        return list(x) if isinstance(x, tuple) else x

    source, named, nobody = lengths(), texts(), none_there()
    show.override(task_id="filtered").expand(x=source.map(not_one))
    show.override(task_id="filtered_twice").expand(x=source.map(not_one).map(lambda x: x * 100))
    show.override(task_id="zipped").expand(x=source.zip(named, source.map(lambda x: -x)))
    show.override(task_id="filled").expand(x=source.zip(named, nobody, fillvalue="?"))
    show.override(task_id="zip_of_none").expand(x=source.zip(nobody))
    show.override(task_id="joined").expand(x=source.concat(nobody, named))
    show.override(task_id="zip_filtered").expand(x=source.zip(named).map(lambda pair: pair[0]).map(not_one))
    show.override(task_id="join_filtered").expand(x=source.map(not_one).concat(source))
    total(show.override(task_id="summed").expand(x=source.map(not_one)))
    show.override(task_id="product").expand_kwargs(source.map(lambda x: {"x": [x, x]}))
    show.override(task_id="in_pool", pool_slots=2, priority_weight=7, weight_rule="absolute", retries=1).expand(x=source)
    show.override(task_id="named", map_index_template="no {{ task.op_kwargs['x'] }}").expand(x=source)

with DAG(dag_id="own_again_unmappable", schedule=None, tags=["own"]):

    @task
    def many():
        return list(range(1025))

    @task
    def many_named():
        return {str(number): number for number in range(1025)}

    @task
    def nothing_at_all():
        return None

    @task
    def text():
        return "text"

    @task
    def pairs():
        return [("a", 1)]

    show.override(task_id="of_many").expand(x=many())
    show.override(task_id="of_many_named").expand(x=many_named())
    show.override(task_id="of_nothing").expand(x=nothing_at_all())
    show.override(task_id="of_text").expand(x=text())
    show.override(task_id="of_pairs").expand(x=pairs())

with DAG(dag_id="own_again_nothing", schedule=None, tags=["own"]):
    empty = none_there()

    @task_group
    def hollow(x):
        show.override(task_id="first")(x) >> EmptyOperator(task_id="second", trigger_rule="all_done")

    hollows = hollow.expand(x=empty)
    tasks = show.override(task_id="mapped").expand(x=empty)
    for rule in ("all_success", "all_done", "none_failed", "none_failed_min_one_success", "all_skipped", "always"):
        EmptyOperator(task_id=f"task_{rule}", trigger_rule=rule) << tasks
        EmptyOperator(task_id=f"group_{rule}", trigger_rule=rule) << hollows
    show.override(task_id="of_mapped").expand(x=tasks)
    show.override(task_id="gathered")(tasks)

with DAG(dag_id="own_again_setups", schedule=None, tags=["own"]):

    @setup
    def make(x, dag_run=None):
        if x in dag_run.conf.get("make", []):
            raise AirflowFailException(x)
        return x

    @teardown(on_failure_fail_dagrun=True)
    def remove(x):
        return x

    @task_group
    def with_setup(x):
        made_here = make(x)
        removed = remove(x)
        work = heed(x)
        made_here >> work >> removed
        made_here >> removed

    with_setup.expand(x=lengths()) >> EmptyOperator(task_id="after_setups", trigger_rule="all_done")

with DAG(dag_id="own_again_branches", schedule=None, tags=["own"]):

    @task.branch
    def pick(x):
        return {0: "branched.even", 10: ["branched.even", "branched.odd"], 20: None}.get(x, "branched.odd")

    @task.short_circuit
    def goes_on(x):
        return x != 10

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def goes_on_gently(x):
        return x != 10

    @task_group
    def branched(x):
        pick(x) >> [EmptyOperator(task_id="even"), EmptyOperator(task_id="odd")] >> EmptyOperator(
            task_id="join", trigger_rule="none_failed_min_one_success"
        )

    @task_group
    def stopped(x):
        goes_on(x) >> EmptyOperator(task_id="next") >> EmptyOperator(task_id="done", trigger_rule="all_done")
        goes_on_gently(x) >> EmptyOperator(task_id="next_gently") >> EmptyOperator(task_id="done_gently", trigger_rule="all_done")

    every = lengths()
    for mapped in (branched.expand(x=every), stopped.expand(x=every)):
        mapped >> EmptyOperator(task_id=f"after_{mapped.group_id}", trigger_rule="none_failed")

daily = {
    "schedule": "@daily",
    "start_date": datetime(2024, 3, 1, tzinfo=timezone.utc),
    "end_date": datetime(2024, 3, 4, tzinfo=timezone.utc),
    "catchup": True,
    "tags": ["own"],
}

with DAG(dag_id="own_again_past", max_active_runs=4, **daily):

    @task
    def may_skip(ds=None):
        if ds in ("2024-03-01", "2024-03-03"):
            raise AirflowSkipException(ds)

    @task(depends_on_past=True, retries=1, retry_delay=timedelta(seconds=2))
    def in_turn(ds=None, ti=None):
        if ds == "2024-03-02" and ti.try_number == 1:
            raise ValueError(ds)
        return [ds, *(ti.xcom_pull(task_ids="in_turn", include_prior_dates=True) or [])]

    @task(depends_on_past=True, wait_for_past_depends_before_skipping=True)
    def skips_in_turn():
        pass

    @task(wait_for_downstream=True)
    def above(ds=None, ti=None):
        return [ds, *(ti.xcom_pull(task_ids="below_again", include_prior_dates=True) or [])]

    @task(retries=1, retry_delay=timedelta(seconds=2))
    def below_again(before, ds=None, ti=None):
        if ds == "2024-03-03" and ti.try_number == 1:
            raise ValueError(ds)
        return before

    @task(depends_on_past=True, ignore_first_depends_on_past=True)
    def first_is_free():
        pass

    [may_skip(), in_turn()] >> skips_in_turn()
    below_again(above())
    first_is_free()

with DAG(dag_id="own_again_waits", max_active_runs=4, **{**daily, "end_date": datetime(2024, 3, 2, tzinfo=timezone.utc)}):

    @task
    def skips_later(ds=None):
        if ds == "2024-03-02":
            raise AirflowSkipException(ds)

    @task(depends_on_past=True, wait_for_past_depends_before_skipping=True)
    def waits_to_skip(ds=None):
        raise AirflowFailException(ds)

    @task(depends_on_past=True)
    def skips_at_once(ds=None):
        raise AirflowFailException(ds)

    @task(wait_for_downstream=True)
    def waits_for_below():
        pass

    @task
    def fails(ds=None):
        raise AirflowFailException(ds)

    @task(depends_on_past=True)
    def goes_on():
        pass

    skips_later() >> [waits_to_skip(), skips_at_once()] >> EmptyOperator(task_id="after_skips", trigger_rule="all_done")
    waits_for_below() >> fails()
    goes_on()

with DAG(dag_id="own_again_latest", max_active_runs=1, **daily):
    LatestOnlyOperator(task_id="latest") >> EmptyOperator(task_id="only_latest") >> EmptyOperator(
        task_id="anyway", trigger_rule="all_done"
    )

with DAG(dag_id="own_again_tries", schedule=None, tags=["own"]):

    @task(retries=3, retry_delay=timedelta(seconds=1), retry_exponential_backoff=True, max_retry_delay=timedelta(seconds=2))
    def third_time(ti=None):
        if ti.try_number < 3:
            raise ValueError(ti.try_number)
        return ti.try_number

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def mapped_tries(x, ti=None):
        if x == 10 or ti.try_number == 1:
            raise ValueError(x)
        return x

    third_time()
    mapped_tries.expand(x=lengths()) >> EmptyOperator(task_id="after_tries", trigger_rule="one_success")

with DAG(dag_id="own_again_dates", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=timezone.utc), tags=["own"]):
    early = EmptyOperator(task_id="until_february", end_date=datetime(2024, 2, 1, tzinfo=timezone.utc))
    late = EmptyOperator(task_id="from_march", start_date=datetime(2024, 3, 1, tzinfo=timezone.utc))
    with TaskGroup("always_there"):
        EmptyOperator(task_id="one") >> EmptyOperator(task_id="two")
    [early, late] >> EmptyOperator(task_id="after_dates")
