//! Linearizability: whether what clients saw of a service can be explained by one copy that did everything at once.
//!
//! A [`History`] says who asked what, when, and what was answered when. [`check`] looks for an order of all operations
//! that a sequential [`Model`] of the service allows and that respects time: what was answered before something else was
//! asked comes before it (Herlihy and Wing: "Linearizability: A Correctness Condition for Concurrent Objects", TOPLAS
//! 1990). An operation without an answer **is unknown**: it may have been executed at any time after it was asked, also
//! long after everything else, or never.
//!
//! The search is Wing's and Gong's ("Testing and Verifying Concurrent Objects", JPDC 1993) with Lowe's memory of what was
//! tried ("Testing for Linearizability", CCPE 2017), and looks at each lock or key by itself, which is enough because
//! linearizability is local (Herlihy and Wing, theorem 1; Horn and Kroening call it P-compositionality in "Faster
//! Linearizability Checking via P-Compositionality", FORTE 2015). See [`search`] for what is added for unknown outcomes.
//!
//! # Where histories come from
//!
//! * Real clients record into a [`Recorder`], which has a clock of its own. Recorders of several processes on one machine
//!   use the same clock, so that their histories can be [joined](History::join).
//! * A simulator, which has its own time, fills a [`History`] itself. Every event should have a moment of its own (the
//!   number of the simulator's step will do, a virtual clock that stands still during a step will not): an answer and a
//!   question at the same moment count as concurrent, and then less can be said.
//!
//! ```
//! use yfs_tests::linear::models::{RegisterAnswer, RegisterOp, Registers};
//! use yfs_tests::linear::{Failure, History, Limits, check};
//!
//! let mut history = History::new();
//! // Client 1 writes 5 to register 7 between the moments 10 and 20.
//! let put = history.invoke(1, 10, RegisterOp::Put { key: 7, value: 5 });
//! history.answer(put, 20, RegisterAnswer::Done);
//! // Client 2 wants to write 6, and never hears whether that happened.
//! let unknown = history.invoke(2, 15, RegisterOp::Put { key: 7, value: 6 });
//! // Client 1 reads 6, so it did.
//! let get = history.invoke(1, 30, RegisterOp::Get { key: 7 });
//! history.answer(get, 40, RegisterAnswer::Value(Some(6)));
//! check(&Registers, &history, &Limits::default()).expect("the unknown write explains what was read");
//!
//! // A later read of 5 cannot be: nobody wrote 5 again.
//! let stale = history.invoke(1, 50, RegisterOp::Get { key: 7 });
//! history.answer(stale, 60, RegisterAnswer::Value(Some(5)));
//! let failure = check(&Registers, &history, &Limits::default()).unwrap_err();
//! assert!(matches!(failure, Failure::NotLinearizable(_)), "{failure}");
//! // What was refused for sure, without effect, is taken out again.
//! history.never(stale);
//! # let _ = unknown;
//! check(&Registers, &history, &Limits::default()).unwrap();
//! ```
//!
//! A history can be written to a file ([`AnyHistory::write`]) and checked again with `yfs_linear check FILE`.
//!
//! [`live`] runs real processes under faults and checks them.
//!
//! # Another model
//!
//! One file in [`models`] that implements [`Model`], and one line in [`AnyHistory`]. Keep the state of one key small: the
//! search compares states all the time.

mod bits;
mod checker;
mod file;
mod history;
mod list;
pub mod live;
mod model;
pub mod models;
mod recorder;
pub mod search;
mod verdict;

pub use checker::{Limits, check};
pub use file::{AnyHistory, FileError};
pub use history::{Answer, History, HistoryOf, OpId, Operation};
pub use model::Model;
pub use recorder::{Clock, Pending, Recorder};
pub use verdict::{Checked, Failure, GaveUp, Violation};
