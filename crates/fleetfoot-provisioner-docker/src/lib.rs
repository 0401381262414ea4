//! Docker and Podman backend of fleetfoot
