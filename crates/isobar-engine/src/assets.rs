//! Assets: which Dags an asset event reaches, and when what is queued for a Dag is enough to make a run.
