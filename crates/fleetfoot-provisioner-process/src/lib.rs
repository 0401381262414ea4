//! Process backend of fleetfoot
