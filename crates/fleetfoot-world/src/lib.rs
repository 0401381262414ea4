//! Simulated worlds: the real controller, GitHub room and store against the box and the simulated backend,
//! in one current-thread runtime under a paused clock, driven by a seed.
//!
//! What it does not know: concrete backends, the configuration file, HTTP serving.
