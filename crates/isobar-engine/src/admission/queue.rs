//! Waiting lines.
