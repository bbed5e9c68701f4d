//! Timetables: when a Dag's next run is due.
