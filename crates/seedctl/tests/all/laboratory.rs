//! What needs root and a laboratory: stock aria2 in the campus of namespaces of
//! `scripts/lab/campus`. Without root and the packages that `scripts/lab/campus packages` names
//! these tests fail, they are never skipped.

mod campus;
mod faults;
mod get;
mod swarm;
mod track;
