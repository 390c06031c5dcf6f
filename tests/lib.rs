//! Nothing: the tests are one binary, `main.rs`; cargo wants a library beside it.
