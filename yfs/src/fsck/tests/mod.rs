//! One planted damage for each kind of finding.

mod fixture;
mod names;
mod records;
mod repair;
