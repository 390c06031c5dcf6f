//! stages
fn main() {}
