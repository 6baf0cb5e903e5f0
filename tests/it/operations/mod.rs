//! What an operator does and sees: start, reload, end, certificates, limits, logs, load balancers.

mod brute_force;
mod certificates;
mod check;
mod drain;
mod explain;
mod first_contact;
mod lame_duck;
mod limits;
mod logs;
mod probe;
mod proxy_protocol;
mod reload;
mod status_page;
mod terminate;
