//! A whole GitHub in a box and a stand-in runner
