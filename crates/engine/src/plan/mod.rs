//! Where a model goes on a machine, and how fast it will be there: answered from sizes alone.
//!
//! [`Anatomy`] is a model taken apart: what is stored, what a token reads and multiplies. [`Machine`] is
//! what there is of memory and of speed. [`plan`] puts the one on the other, as fast as it fits, and says
//! what each part takes and how long; where nothing fits, [`advise`] says what would.
//!
//! Nothing here reads a file or asks a system: programs do, and hand over what they found. How the
//! numbers come about is written in `docs/plan.md`.

mod advice;
mod anatomy;
mod budget;
mod error;
pub mod factors;
mod machine;
mod names;
mod placement;
mod search;
mod speed;
mod wish;

pub use advice::{Advice, Alternative, advise};
pub use anatomy::{Anatomy, Block, ExpertsAnatomy, Group, Piece, StoredTensorSize};
pub use budget::Budget;
pub use error::PlanError;
pub use machine::{Gpu, Host, Machine};
pub use names::place_of;
pub use placement::{Device, LayerPlace, Placement};
pub use search::{Plan, check, check_with_copies, plan, plan_on_cpu};
pub use speed::{Limit, Speed, Term, copied_per_step, decode, prefill, streams_from};
pub use wish::Wish;
