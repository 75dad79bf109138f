//! What needs root and a laboratory: stock aria2 in the campus of namespaces of `scripts/lab/campus`. Without root and the packages
//! that `scripts/lab/campus packages` names these tests fail, they are never skipped.

#[path = "laboratory/campus.rs"]
mod campus;
#[path = "laboratory/faults.rs"]
mod faults;
#[path = "laboratory/get.rs"]
mod get;
mod offered;
#[path = "laboratory/swarm.rs"]
mod swarm;
#[path = "laboratory/track.rs"]
mod track;
mod tracker;
