//! The durable record of fleetfoot
