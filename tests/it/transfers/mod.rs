//! Transfers from their beginning to their end: nobody may believe that part of a file is all of it.
//!
//! `integrity` plays every way in which a transfer ends, step by step, and knows what each party has to see; `kills` has
//! the processes of real programs die at any byte, and knows only what must never be.

mod end_to_end;
mod integrity;
mod kills;
mod shortages;
mod uploads;
