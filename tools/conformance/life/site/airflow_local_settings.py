"""Cluster policies, which mind only Dags that ask for it by their id."""

from __future__ import annotations


def dag_policy(dag):
    from airflow.exceptions import AirflowClusterPolicySkipDag, AirflowClusterPolicyViolation

    if dag.dag_id == "policy_forbidden":
        raise AirflowClusterPolicyViolation("no Dag may be called that")
    if dag.dag_id == "policy_skipped":
        raise AirflowClusterPolicySkipDag("this Dag is not wanted here")
    if dag.dag_id == "policy_broken":
        raise ValueError("the policy itself is broken")
    if dag.dag_id == "policy_changed":
        dag.tags.add("seen by the policy")


def task_policy(task):
    from airflow.exceptions import AirflowClusterPolicyError, AirflowClusterPolicyViolation

    if task.dag_id == "policy_task_forbidden" and task.task_id == "works":
        raise AirflowClusterPolicyViolation(f"task {task.task_id} is forbidden")
    if task.dag_id == "policy_task_error":
        raise AirflowClusterPolicyError("the policy gives up")
    if task.dag_id == "policy_changed":
        task.retries = 4
        task.queue = "default"
        task.doc_md = "seen by the policy"


def task_instance_mutation_hook(task_instance):
    if task_instance.dag_id == "policy_changed" and task_instance.task_id == "works":
        task_instance.priority_weight = 77


def get_airflow_context_vars(context):
    if context["dag"].dag_id == "policy_changed":
        return {"LIFE_TASK": context["ti"].task_id}
    return {}
