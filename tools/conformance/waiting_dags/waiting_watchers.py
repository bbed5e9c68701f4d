"""Assets that are watched."""

from airflow.sdk import DAG, Asset, AssetWatcher, task
from waiting_triggers import Watcher


def watched(name, *watchers):
    return Asset(name, watchers=[AssetWatcher(name=watcher, trigger=trigger) for watcher, trigger in watchers])


@task
def read(triggering_asset_events=None):
    return sorted(event.extra["payload"]["file"] for events in triggering_asset_events.values() for event in events)


inbox = watched("watch_inbox", ("folder", Watcher("mail")))
# The same trigger, for another asset.
copy = watched("watch_copy", ("folder", Watcher("mail")))
two = watched("watch_two", ("one", Watcher("first")), ("other", Watcher("second")))
once = watched("watch_once", ("once", Watcher("single", "once")))
fails = watched("watch_fails", ("fails", Watcher("broken", "fails")))

for dag_id, assets in {
    "watch_inbox": [inbox],
    "watch_copy": [copy],
    "watch_two": [two],
    "watch_once": [once],
    "watch_fails": [fails],
}.items():
    with DAG(dag_id, schedule=assets):
        read()
