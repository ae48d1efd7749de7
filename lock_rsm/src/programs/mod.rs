//! What the command-line programs of this crate share.
