//! The `netns-agent` program: arguments, exit codes and the runtime; nothing else.
fn main() {}
