"""Airflow's secrets masker on the cases of standard input: {add: [[value, name]], texts: [...], names: [...]}."""

import json
import sys

import airflow.settings  # noqa: F401  configures the masker
from airflow.sdk._shared.secrets_masker import redact, should_hide_value_for_key
from airflow.sdk._shared.secrets_masker.secrets_masker import _secrets_masker

cases = json.load(sys.stdin)
for value, name in cases["add"]:
    if value:
        _secrets_masker().add_mask(value, name)
events = [redact(event) for event in cases["events"]]
print(json.dumps({"events": events, "names": [should_hide_value_for_key(name) for name in cases["names"]]}))
