//! What an operator does and sees: start, reload, end, certificates, limits, logs, load balancers.

mod brute_force;
mod certificates;
mod check;
mod commands;
mod control;
mod drain;
mod explain;
mod fail2ban;
mod first_contact;
mod import;
mod lame_duck;
mod limits;
mod log_lines;
mod logs;
mod metrics;
mod probe;
mod proxy_protocol;
mod reload;
mod status_page;
mod terminate;
mod transfer_logs;
