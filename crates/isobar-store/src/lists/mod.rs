//! Filtered, ordered and paged reads: what the REST API shows.
//!
//! Every list takes a [`isobar_auth::ReadScope`], which becomes part of the WHERE clause, so that a page costs the same
//! whoever asks (rule 24). Nothing here changes a row.

pub mod cursor;
pub mod dags;
pub mod health;
pub mod matching;
pub mod ordering;
pub mod runs;
mod select;
pub mod stats;
pub mod task_instances;
pub mod tries;
pub mod versions;

pub use cursor::{BadCursor, Cursor, CursorPage};
pub use matching::{Page, RealRange, Slice, TextMatch, TimeRange};
pub use ordering::{BadOrder, Ordering, Sortables};
