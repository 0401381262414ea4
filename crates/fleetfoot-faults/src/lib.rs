//! What tests do to fleetfoot from within: crash it at a named point, or plant a known defect in it.
//!
//! A room names this one only under its feature `faults`, each use is one line behind `#[cfg(feature =
//! "faults")]` in the production file that it concerns, and no release is built with it:
//!
//! ```text
//! #[cfg(feature = "faults")]
//! fleetfoot_faults::point("listener.acknowledge.before");
//!
//! #[cfg(feature = "faults")]
//! if fleetfoot_faults::Defect::IgnoreBusy.is_planted() { … }
//! ```
//!
//! What it does not know: any other room. Where to start: [`point`] and [`Defect`].

mod defect;
mod point;

pub use defect::{Defect, plant};
pub use point::{hook, point};
