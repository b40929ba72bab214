//! What the tests, the benchmarks and the simulator share.
//!
//! Owns what more than one of them needs. Must never be part of a program that is installed. Start reading at [`random`] or [`process`].
#![forbid(unsafe_code)]

pub mod process;
pub mod random;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
