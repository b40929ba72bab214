//! The scheduler history as JSON and as text, in the formats of ligato vpp-agent.

pub mod json;
#[cfg(test)]
mod tests;
pub mod text;
