//! What the tests, the benchmarks and the simulator share.
//!
//! Owns what more than one of them needs. Must never be part of a program that is installed. Start reading at [`random`].
#![forbid(unsafe_code)]

pub mod random;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
