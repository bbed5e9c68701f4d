//! Cron expressions in croniter's dialect.
