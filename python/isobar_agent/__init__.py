"""The part of Isobar that runs inside a team's own Python environment.

Imports the standard library and Airflow only. Shipped inside the `isobar` binary.
"""
