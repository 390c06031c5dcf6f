//! The data path of failback, in the order in which a block travels.

pub mod unit;
pub mod limits;
pub mod error;
