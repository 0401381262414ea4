CREATE TABLE IF NOT EXISTS fleetfoot_controllers (
  id {NAME} NOT NULL PRIMARY KEY,
  host_id {NAME} NOT NULL,
  boot_id {NAME} NOT NULL,
  deadline BIGINT NOT NULL,
  data {TEXT} NOT NULL
) {END};

CREATE TABLE IF NOT EXISTS fleetfoot_owners (
  pool {NAME} NOT NULL PRIMARY KEY,
  owner {NAME},
  epoch BIGINT NOT NULL,
  host_id {NAME},
  writes BIGINT NOT NULL
) {END};

CREATE TABLE IF NOT EXISTS fleetfoot_wishes (
  id {SERIAL},
  pool {NAME} NOT NULL,
  instance {NAME},
  word {NAME} NOT NULL,
  wished_at BIGINT NOT NULL
) {END}
