"""Mappers of partitions, and windows, of a team's own."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.partition_mappers.base import PartitionMapper
from airflow.partition_mappers.window import Window
from airflow.plugins_manager import AirflowPlugin


class Split(PartitionMapper):
    """`a+b` is for `a` and for `b`; some keys go wrong."""

    def to_downstream(self, key):
        if key == "raises":
            raise ValueError("told so")
        return [] if key == "none" else key.split("+")


class Dated(PartitionMapper):
    """A day's partition has a date, which is told at once, or when the run is made."""

    def __init__(self, carried=False, **more):
        super().__init__(**more)
        self.carried = carried

    def to_downstream(self, key):
        return f"day {key}"

    def to_partition_date(self, key):
        return None if self.carried else datetime.strptime(key, "day %Y-%m-%d").replace(tzinfo=timezone.utc)

    def carry_partition_date(self, date):
        return datetime(2024, 1, 1, tzinfo=timezone.utc) if self.carried and date is None else None

    def serialize(self):
        return {"carried": self.carried}

    @classmethod
    def deserialize(cls, data):
        return cls(data["carried"])


class Numbers(PartitionMapper):
    """Numbers, by the dozen or so."""

    expected_decoded_type = int

    def __init__(self, size, **more):
        super().__init__(**more)
        self.size = size

    def to_downstream(self, key):
        return str(int(key) // self.size)

    def decode_downstream(self, key):
        return int(key)

    def encode_upstream(self, decoded):
        return str(decoded)

    def serialize(self):
        return {"size": self.size}

    @classmethod
    def deserialize(cls, data):
        return cls(data["size"])


class Span(Window):
    """All the numbers of a group."""

    expected_decoded_type = int

    def __init__(self, size, **more):
        super().__init__(**more)
        self.size = size

    def to_upstream(self, decoded):
        if decoded == 30:
            raise ValueError("a window that cannot be told")
        return range(decoded * self.size, (decoded + 1) * self.size)

    def serialize(self):
        return {**super().serialize(), "size": self.size}

    @classmethod
    def deserialize(cls, data):
        return cls(data["size"])


class OwnMappingPlugin(AirflowPlugin):
    name = "own_mapping"
    partition_mappers = [Split, Dated, Numbers]
    windows = [Span]
