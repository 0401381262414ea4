//! The public contract of fleetfoot: request and response types, error codes, typed client
