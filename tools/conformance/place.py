"""The folders of a run: the example Dags of the installed wheels, our own, and the plugins that the examples need."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import families as f

HERE = pathlib.Path(__file__).resolve().parent
# Shims, as a plugin must register the very classes that the examples import.
PLUGINS = """\
from airflow.example_dags.plugins.business_day_window import BusinessDayWindowPlugin
from airflow.example_dags.plugins.custom_partition_mapper import PrefixStripMapperPlugin
from airflow.example_dags.plugins.custom_partition_timetable import ScheduledRuntimePartitionTimetablePlugin
from airflow.example_dags.plugins.decreasing_priority_weight_strategy import DecreasingPriorityWeightStrategyPlugin
from airflow.example_dags.plugins.listener_plugin import MetadataCollectionPlugin
from airflow.example_dags.plugins.workday import WorkdayTimetablePlugin
"""


def site_packages(python: str) -> pathlib.Path:
    """Where this interpreter keeps Airflow."""
    code = "import importlib.util as u; print(u.find_spec('airflow').submodule_search_locations[0])"
    return pathlib.Path(subprocess.run([python, "-c", code], check=True, text=True, capture_output=True).stdout.strip())


def prepare(folder: pathlib.Path, python: str) -> None:
    """Makes `folder`/dags and `folder`/plugins from the wheels that `python` has."""
    airflow = site_packages(python)
    dags, plugins = folder / "dags", folder / "plugins"
    for old in (dags, plugins):
        shutil.rmtree(old, ignore_errors=True)
    skip = shutil.ignore_patterns("plugins", "__pycache__")
    shutil.copytree(airflow / "example_dags", dags / "core", ignore=skip)
    shutil.copytree(airflow / "providers/standard/example_dags", dags / "standard", ignore=skip)
    shutil.copytree(HERE / "dags", dags / "own", ignore=skip)
    plugins.mkdir()
    shutil.rmtree(folder / "later", ignore_errors=True)
    for name in f.LATER:
        (folder / "later" / name).parent.mkdir(parents=True, exist_ok=True)
        (dags / name).rename(folder / "later" / name)
    (plugins / "example_plugins.py").write_text(PLUGINS)
    for own in (HERE / "plugins").glob("*.py"):
        shutil.copy(own, plugins)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def add(folder: pathlib.Path, name: str) -> None:
    """Brings a Dag file that had to come later."""
    made = folder / "dags" / (name + ".new")
    shutil.copyfile(folder / "later" / name, made)
    made.chmod(0o644)
    made.rename(folder / "dags" / name)
