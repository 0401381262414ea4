CREATE TABLE IF NOT EXISTS fleetfoot_target_settings (
  id {NAME} NOT NULL PRIMARY KEY,
  mode {NAME},
  max_runners BIGINT
) {END}
