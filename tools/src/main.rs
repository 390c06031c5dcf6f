//! failback
fn main() {}
