CREATE TABLE IF NOT EXISTS fleetfoot_targets (
  id {NAME} NOT NULL PRIMARY KEY,
  scope {ID} NOT NULL,
  scope_key {ID} NOT NULL,
  ghe_domain {ID},
  resource_type {NAME} NOT NULL,
  provider_url {ID},
  status {NAME} NOT NULL,
  status_description {ID},
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
) {END};

CREATE UNIQUE INDEX fleetfoot_targets_by_scope ON fleetfoot_targets (scope_key)
