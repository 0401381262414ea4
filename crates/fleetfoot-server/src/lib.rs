//! HTTP face of fleetfoot
