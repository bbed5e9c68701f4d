//! The serialized Dag, version 3: what the dag-processor's child reports and everything above reads.
