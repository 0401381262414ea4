CREATE TABLE IF NOT EXISTS fleetfoot_meta (
  name {NAME} NOT NULL PRIMARY KEY,
  content {TEXT} NOT NULL
) {END};

CREATE TABLE IF NOT EXISTS fleetfoot_pools (
  name {NAME} NOT NULL PRIMARY KEY,
  intent {NAME} NOT NULL,
  created_at BIGINT NOT NULL,
  data {TEXT} NOT NULL
) {END};

CREATE TABLE IF NOT EXISTS fleetfoot_instances (
  name {NAME} NOT NULL PRIMARY KEY,
  pool {NAME} NOT NULL,
  phase {NAME} NOT NULL,
  job {ID},
  job_result {TEXT},
  job_completed_at BIGINT,
  created_at BIGINT NOT NULL,
  closed_at BIGINT,
  data {TEXT} NOT NULL
) {END};

CREATE INDEX fleetfoot_instances_by_phase ON fleetfoot_instances (phase);

CREATE INDEX fleetfoot_instances_by_closed ON fleetfoot_instances (closed_at);

CREATE INDEX fleetfoot_instances_by_job ON fleetfoot_instances (job);

CREATE TABLE IF NOT EXISTS fleetfoot_jobs (
  pool {NAME} NOT NULL,
  id {ID} NOT NULL,
  state {NAME} NOT NULL,
  instance {ID},
  seen_at BIGINT NOT NULL,
  data {TEXT} NOT NULL,
  PRIMARY KEY (pool, id)
) {END};

CREATE TABLE IF NOT EXISTS fleetfoot_job_history (
  pool {NAME} NOT NULL,
  id {ID} NOT NULL,
  state {NAME} NOT NULL,
  instance {ID},
  result {TEXT},
  seen_at BIGINT NOT NULL,
  finished_at BIGINT NOT NULL,
  data {TEXT} NOT NULL,
  PRIMARY KEY (pool, id)
) {END};

CREATE INDEX fleetfoot_job_history_by_finished ON fleetfoot_job_history (finished_at);

CREATE INDEX fleetfoot_job_history_by_id ON fleetfoot_job_history (id);

CREATE INDEX fleetfoot_job_history_by_instance ON fleetfoot_job_history (instance);

CREATE TABLE IF NOT EXISTS fleetfoot_events (
  id {SERIAL},
  happened_at BIGINT NOT NULL,
  pool {NAME},
  instance {NAME},
  job {ID},
  phrase {TEXT} NOT NULL,
  fields {TEXT} NOT NULL
) {END};

CREATE INDEX fleetfoot_events_by_time ON fleetfoot_events (happened_at);

CREATE INDEX fleetfoot_events_by_pool ON fleetfoot_events (pool);

CREATE INDEX fleetfoot_events_by_instance ON fleetfoot_events (instance);

CREATE INDEX fleetfoot_events_by_job ON fleetfoot_events (job);

CREATE TABLE IF NOT EXISTS fleetfoot_leases (
  scope {NAME} NOT NULL PRIMARY KEY,
  owner {NAME} NOT NULL,
  epoch BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  writes BIGINT NOT NULL
) {END}
