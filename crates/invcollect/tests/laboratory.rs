//! What needs root and a laboratory. Without root and the packages that the scripts in scripts/lab name these tests fail, they are
//! never skipped.

#[path = "laboratory/collector.rs"]
mod collector;
#[path = "laboratory/faults.rs"]
mod faults;
#[path = "laboratory/push.rs"]
mod push;
#[path = "machine/stepped.rs"]
mod stepped;
