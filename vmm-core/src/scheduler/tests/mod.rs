//! The scheduler at work.

mod invariants;
mod latency;
mod machine;
mod places;
mod random;
mod shares;
