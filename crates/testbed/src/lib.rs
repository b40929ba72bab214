//! What the tests, the benchmarks and the simulator share.
//!
//! Owns what more than one of them needs. Must never be part of a program that is installed. Start reading at [`random`], or at
//! [`expected`] for what must come of a configuration.
#![forbid(unsafe_code)]

pub mod expected;
pub mod process;
pub mod random;
pub mod values;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
