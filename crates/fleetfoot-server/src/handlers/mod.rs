//! What each route does.

pub(crate) mod health;
pub(crate) mod read;
pub(crate) mod write;
