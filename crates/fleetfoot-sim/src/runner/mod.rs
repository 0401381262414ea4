//! A stand-in runner: takes a JIT config as the real one does, connects to the box, waits for one
//! job, prints a log, and exits as `run.sh` does.
//!
//! As a program it is [`main`]; inside a runtime it is [`Runner`]. It needs no file, no TLS and
//! one thread, so it works alone in an image made from scratch and a hundred start at once.
//!
//! | It gets the JIT config from | As |
//! |---|---|
//! | `--jitconfig BLOB` (or `--jitconfig=BLOB`) | argument |
//! | `ACTIONS_RUNNER_INPUT_JITCONFIG` (any case) | environment |
//! | `.runner` and `.credentials` | files beside the program, or in the working directory |

mod blob;
mod client;
mod program;
mod work;

pub use blob::{Blob, BlobError};
pub use program::main;
pub use work::{Exit, Runner, RunnerError, Stop};
