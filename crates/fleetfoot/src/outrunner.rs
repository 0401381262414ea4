//! What differs when the program is called `outrunner`: the original's command line, texts and log
//! lines, so that its unit files, scripts and alert rules keep working.

pub mod args;
pub mod log;
