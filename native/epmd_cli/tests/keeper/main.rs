//! The keeper: what it holds, whom it starts again, and when it ends. The virtual
//! machine's side is a program of the test's own (`vm.py`).

#![cfg(test)]

mod ending;
mod fixture;
mod holding;
mod resources;
mod starting;
