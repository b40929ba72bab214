//! Code shared by the tests, the benchmarks and the simulator. It is not part of any installed program.
//!
//! [`expected`] is the test oracle: it computes the expected result of a configuration.
#![forbid(unsafe_code)]

pub mod expected;
pub mod process;
pub mod random;
pub mod values;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
