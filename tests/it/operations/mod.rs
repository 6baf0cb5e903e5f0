//! What an operator does and sees: start, reload, end, certificates, limits, logs, load balancers.

mod acme;
mod brute_force;
mod certificates;
mod certificates_by_name;
mod check;
mod commands;
mod control;
mod drain;
mod explain;
mod fail2ban;
mod first_contact;
mod import;
mod import_pfx;
mod lame_duck;
mod limits;
mod log_lines;
mod logs;
mod metrics;
mod probe;
mod proxy_protocol;
mod reload;
mod service_manager;
mod socket_activation;
mod status_page;
mod terminate;
mod transfer_logs;
