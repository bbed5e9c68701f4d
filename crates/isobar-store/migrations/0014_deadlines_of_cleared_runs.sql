-- Whether a deadline counts from when its run was queued: clearing the run queues it anew, and the deadline moves with it.
ALTER TABLE deadline ADD COLUMN from_queued BOOLEAN NOT NULL DEFAULT FALSE;
