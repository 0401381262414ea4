//! The store against real databases: SQLite always, PostgreSQL and MariaDB where a server is named by
//! `FLEETFOOT_TEST_POSTGRES_URL` and `FLEETFOOT_TEST_MARIADB_URL`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod bed;
mod copies;
mod disk;
mod generate;
mod history;
mod kill;
mod lease;
mod lost;
mod opening;
mod random;
mod retention;
mod round_trip;
mod speed;
mod state_dir;
mod targets;
mod updates;
mod year;
