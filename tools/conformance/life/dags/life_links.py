"""Links of operators and rendered templates."""

from airflow.sdk import DAG, BaseOperator, BaseOperatorLink


class Docs(BaseOperatorLink):
    name = "Docs"

    def get_link(self, operator, *, ti_key):
        return f"https://docs.example.com/{ti_key.dag_id}/{ti_key.task_id}/{ti_key.map_index}/{ti_key.try_number}"


class Kept(BaseOperatorLink):
    name = "Kept"
    xcom_key = "kept_link"

    def get_link(self, operator, *, ti_key):
        from airflow.sdk.execution_time.xcom import XCom

        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""


class Broken(BaseOperatorLink):
    name = "Broken"

    def get_link(self, operator, *, ti_key):
        raise RuntimeError("no link")


class Linked(BaseOperator):
    operator_extra_links = (Docs(), Kept(), Broken())
    template_fields = ("text", "more")
    template_fields_renderers = {"more": "json"}

    def __init__(self, text, more=None, fail=False, **rest):
        super().__init__(**rest)
        self.text, self.more, self.fail = text, more, fail

    def execute(self, context):
        context["ti"].xcom_push("kept_link", f"https://kept.example.com/{self.text}")
        if self.fail:
            raise ValueError("broken")
        return self.text


with DAG(dag_id="linked", schedule=None, params={"n": 3}) as dag:
    first = Linked(
        task_id="first",
        text="{{ params.n }} {{ dag.dag_id }} {{ ds_nodash | default(0) }}",
        more={"run": "{{ run_id }}", "list": [1, None, "{{ ti.task_id }}"]},
    )
    fails = Linked(task_id="fails", text="{{ task.task_id }}", more=("a", {"b"}), fail=True)
    unknown = Linked(task_id="unknown", text="{{ made_up.name }}")
    long = Linked(task_id="long", text="{{ 'ü' * 9000 }}", more="{{ 'x' * 5000 }}")
    mapped = Linked.partial(task_id="mapped", more="{{ ti.map_index }} {{ task.text }}").expand(text=["a{{ params.n }}", "b", first.output])
    never = Linked(task_id="never", text="{{ run_id }}", trigger_rule="all_failed")
    secret = Linked(
        task_id="secret",
        text="{{ var.value.get('life_password', 'none') }}",
        more={"password": "hunter22", "plain": "{{ conn.life_conn.password }}"},
    )
    first >> never
