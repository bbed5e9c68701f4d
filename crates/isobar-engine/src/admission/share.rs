//! Shares of teams.
