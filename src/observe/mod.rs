//! What the operator sees: logs, metrics and the admin endpoint.
