"""Which players will leave? Several models are trained side by side, in a pool of the team; the best one is kept."""

from __future__ import annotations

import json
import os
import random
from datetime import datetime
from pathlib import Path

from airflow.sdk import Asset, Connection, TriggerRule, Variable, dag, get_current_context, task

MODEL = Asset(name="churn_model", uri="rocket://data-science/churn_model")
OUT = Path(os.environ.get("ROCKET_OUT", "/tmp/rocket/data-science"))
FEATURES = ["days_active", "sessions_per_week", "purchases", "support_tickets"]


@dag(
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["model", "churn"],
    doc_md=__doc__,
)
def churn_model():
    @task
    def features(players: int = 400) -> str:
        """Players who may leave for reasons that a model can find."""
        import pandas

        chance = random.Random(2026)
        rows = []
        for _ in range(players):
            days, sessions = chance.randint(1, 400), chance.randint(0, 20)
            purchases, tickets = chance.randint(0, 5), chance.randint(0, 4)
            leaves = tickets * 12 - sessions * 3 - purchases * 5 - days * 0.05 + chance.gauss(0, 6) > -25
            rows.append([days, sessions, purchases, tickets, int(leaves)])
        OUT.mkdir(parents=True, exist_ok=True)
        file = OUT / "features.csv"
        pandas.DataFrame(rows, columns=[*FEATURES, "leaves"]).to_csv(file, index=False)
        print(f"pandas {pandas.__version__}: {players} players in {file}")
        return str(file)

    @task
    def models() -> list[dict]:
        names = Variable.get("models", default=["logistic_regression"], deserialize_json=True)
        return [{"name": name, "seed": seed} for seed, name in enumerate(names)]

    @task(pool="training", map_index_template="{{ model }}")
    def train(file: str, name: str, seed: int) -> dict:
        """One model, its score by cross-validation, and what it looked at."""
        import pandas
        from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_score

        get_current_context()["model"] = name
        frame = pandas.read_csv(file)
        model = {
            "logistic_regression": lambda: LogisticRegression(max_iter=1000),
            "random_forest": lambda: RandomForestClassifier(n_estimators=25, random_state=seed),
            "gradient_boosting": lambda: GradientBoostingClassifier(n_estimators=25, random_state=seed),
        }[name]()
        score = cross_val_score(model, frame[FEATURES], frame["leaves"], cv=3).mean()
        model.fit(frame[FEATURES], frame["leaves"])
        weights = getattr(model, "feature_importances_", None)
        weights = abs(model.coef_[0]) if weights is None else weights
        return {
            "model": name,
            "accuracy": round(float(score), 4),
            "weights": {feature: round(float(weight), 4) for feature, weight in zip(FEATURES, weights)},
        }

    @task
    def choose(results: list[dict]) -> dict:
        for result in sorted(results, key=lambda result: -result["accuracy"]):
            print(f"{result['accuracy']:.3f}  {result['model']}")
        return max(results, key=lambda result: result["accuracy"])

    @task.branch
    def good_enough(best: dict) -> str:
        return "register" if best["accuracy"] > 0.7 else "keep_the_old_one"

    @task(outlets=[MODEL])
    def register(best: dict) -> str:
        registry = Connection.get("model_registry")
        target = OUT / "model.json"
        target.write_text(json.dumps({**best, "registry": f"{registry.host}/{registry.schema}"}, indent=2) + "\n")
        return str(target)

    @task
    def keep_the_old_one() -> None:
        print("no model was good enough")

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def tell(best: dict) -> None:
        print(f"{best['model']} it is, right in {best['accuracy']:.1%} of cases")

    results = train.partial(file=features()).expand_kwargs(models())
    best = choose(results)
    good_enough(best) >> [register(best), keep_the_old_one()] >> tell(best)


churn_model()
