-- When nobody waits for the answer any more: the question is then forgotten, whoever asked it. Null: it stays until it is answered.
ALTER TABLE team_question ADD COLUMN wanted_until BIGINT;
CREATE INDEX team_question_end ON team_question (team_no, wanted_until) WHERE wanted_until IS NOT NULL;
