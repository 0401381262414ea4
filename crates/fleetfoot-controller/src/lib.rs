//! The shell of fleetfoot that acts: supervisor, listener, reconciler, executor, sweeper
