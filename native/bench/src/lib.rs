//! What the benchmarks share.

pub mod cpu;
pub mod load;
pub mod process;
pub mod server;
pub mod wire;

/// The median of some measurements, the upper one of two; 0 if there are none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
