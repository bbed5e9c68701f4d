//! Partitioned assets: from the partition of an asset event to the partitions of the Dags that listen, and when what has
//! arrived for a partition is enough to make its run.
//!
//! The rules are those of Airflow 3.3's `PartitionedAssetTimetable`, and are compared with it case by case
//! (`tests/partition_cases.rs`). [`mapper`] maps keys, [`temporal`] keys that are dates, [`window`] says of what a period
//! consists, [`wait`] how much of it must have arrived, [`schedule`] puts these together for one Dag.

mod format;
pub mod mapper;
mod moment;
pub mod schedule;
mod strptime;
mod temporal;
mod wait;
mod window;

pub use mapper::{Keys, Mapper, MapperError};
pub use schedule::{Arrived, PartitionSaid, PartitionedAssets};
