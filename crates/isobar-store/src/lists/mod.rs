//! Filtered, ordered and paged reads: what the REST API shows.
//!
//! Every list takes a [`isobar_auth::ReadScope`], which becomes part of the WHERE clause, so that a page costs the same
//! whoever asks (rule 24). Nothing here changes a row.

pub mod asset_events;
pub mod asset_queue;
pub mod assets;
pub mod connections;
pub mod cursor;
pub mod dag_warnings;
pub mod dags;
pub mod event_logs;
pub mod health;
pub mod hitl;
pub mod import_errors;
pub mod matching;
pub mod ordering;
pub mod pools;
pub mod runs;
pub(crate) mod select;
pub mod stats;
pub mod stores;
pub mod tags;
pub mod task_instances;
pub mod tries;
pub mod variables;
pub mod versions;
pub mod xcoms;

pub use cursor::{BadCursor, Cursor, CursorPage};
pub use matching::{Page, RealRange, Slice, TextMatch, TimeRange};
pub use ordering::{BadOrder, Ordering, Sortables};
