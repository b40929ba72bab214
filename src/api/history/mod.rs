//! The history of the scheduler as JSON and as text, in the formats of the reference agent.

pub mod json;
#[cfg(test)]
mod tests;
pub mod text;
