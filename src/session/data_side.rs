//! The data connections as the machine requests them: prepared, opened, ended.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::events::{Progress, SessionEvent};
use super::info::CurrentTransfer;
use super::machine::{
    BackendData, ClientData, DataEvent, DataFailure, Event, PreparedPort, Protection,
};
use super::transfer::{
    Acceptance, EarlyHandshake, Faults, Order, PreparedData, RunningData, ThrottledTime,
    TransferContext, TransferLimits, TransferStats,
};
use crate::backend::data::DataEndpoint;
use crate::config::{CloseNotify, SessionReuse};
use crate::net::proxy_header::Origin;
use crate::outcome::Direction;
use crate::passive::{Identity, LeaseRequest};
use crate::tls::{DataTls, Tickets};

/// How long a client that has not sent PROT is waited for to begin TLS. A ClientHello is on its way as soon as the 150 has
/// arrived; by satellite that is more than a second.
const SILENCE_WITHOUT_PROT: Duration = Duration::from_secs(4);

/// The data connections of a session, by their state.
#[derive(Debug)]
pub(super) enum DataSide {
    None,
    /// The client's data port is being leased.
    Preparing(PreparedData),
    Prepared(PreparedData),
    Running(RunningData),
}

/// A report from the data connections.
pub(super) enum DataReport {
    /// Something that the machine decides about.
    Event(Event),
    /// The transfer has run for so long that the log reports it.
    RunsLong,
}

impl DataSide {
    /// Waits for the next report. May be cancelled.
    pub async fn report(&mut self) -> DataReport {
        DataReport::Event(match self {
            Self::Running(running) => {
                let tell_at = running.tell_at();
                tokio::select! {
                    biased;
                    event = running.event() => Event::Data(event),
                    () = tell_at => {
                        running.note_told();
                        return DataReport::RunsLong;
                    }
                }
            }
            Self::Preparing(data) => {
                let prepared = data.prepared().await;
                if let Self::Preparing(data) = std::mem::replace(self, Self::None) {
                    *self = Self::Prepared(data);
                }
                Event::Prepared(prepared)
            }
            Self::None | Self::Prepared(_) => std::future::pending().await,
        })
    }

    /// How many bytes the running transfer has moved.
    pub fn moved(&self) -> u64 {
        match self {
            Self::Running(running) => running.moved(),
            Self::None | Self::Preparing(_) | Self::Prepared(_) => 0,
        }
    }

    /// Takes the connections of the running transfer out, if there is one.
    pub fn take_running(&mut self) -> Option<RunningData> {
        match std::mem::replace(self, Self::None) {
            Self::Running(running) => Some(running),
            other => {
                *self = other;
                None
            }
        }
    }

    pub fn order(&self, order: Order) {
        if let Self::Running(running) = self {
            running.order(order);
        }
    }
}

impl Session {
    /// Takes note of what an event shows about the client's habits.
    pub(super) fn observe_resumption(&self, event: &Event) {
        if let Event::Data(DataEvent::Failed(DataFailure::NotResumed)) = event {
            self.tls.not_resumed();
        }
    }

    pub(super) fn prepare_data(
        &mut self,
        backend: BackendData,
        client: ClientData,
        protection: Protection,
    ) {
        let ends = self
            .data_endpoint(backend)
            .and_then(|backend| Ok((backend, self.local_address()?)));
        let (backend, local) = match ends {
            Ok(ends) => ends,
            Err(error) => {
                self.events.write(&SessionEvent::NoDataEndpoint(&error));
                let no_port = Event::Prepared(PreparedPort::NoPort);
                return self.pending_events.push_back(no_port);
            }
        };
        let timeouts = &self.snapshot.runtime.settings.timeouts;
        let data = match client {
            ClientData::Active(to) => PreparedData::active(backend, to, local, timeouts),
            ClientData::Passive => {
                let request = self.lease_request(protection);
                let early = (protection == Protection::Private).then(|| EarlyHandshake {
                    tls: self.data_tls(Tickets::Restock),
                    time_limit: timeouts.tls_handshake,
                });
                let time_limit = timeouts.data_port;
                let snapshot = Arc::clone(&self.snapshot);
                let listener = self.info.listener.ip();
                let events = self.events.clone();
                let leasing = async move {
                    let ports = &snapshot.runtime.passive;
                    let lease = ports.lease(listener, request, time_limit).await;
                    lease
                        .inspect_err(|no_port| events.write(&SessionEvent::NoPassivePort(*no_port)))
                };
                PreparedData::passive(backend, leasing, early, timeouts)
            }
        };
        self.prepared_for = protection;
        self.data = DataSide::Preparing(data);
    }

    /// Listens for a data connection from the backend, at the address that its control connection has here.
    pub(super) async fn listen_for_backend(&mut self) {
        self.backend_listener = None;
        let mut at = None;
        if let Some(backend) = &self.backend {
            match backend.listen().await {
                Ok((listener, address)) => {
                    at = Some(address);
                    self.backend_listener = Some(listener);
                }
                Err(error) => self.events.write(&SessionEvent::NotListening(&error)),
            }
        }
        self.pending_events.push_back(Event::Listening(at));
    }

    /// The backend has announced another port, or connects to another one of ours.
    pub(super) fn replace_backend_data(&mut self, backend: BackendData) {
        let failure = match (self.data_endpoint(backend), &self.data) {
            (Ok(port), DataSide::Running(running)) => return running.redial(port),
            (Err(error), _) => {
                self.events.write(&SessionEvent::NoDataEndpoint(&error));
                DataFailure::NoBackend
            }
            (Ok(_), _) => DataFailure::Internal,
        };
        self.fail_transfer(failure);
    }

    /// A transfer of which nothing runs that could report how it ends.
    fn fail_transfer(&mut self, failure: DataFailure) {
        let failed = Event::Data(DataEvent::Failed(failure));
        self.pending_events.push_back(failed);
    }

    /// The backend's side of the next data connection; an error only if the session is about to end.
    fn data_endpoint(&mut self, data: BackendData) -> io::Result<DataEndpoint> {
        let lost = || io::Error::from(io::ErrorKind::NotConnected);
        let backend = self.backend.as_ref().ok_or_else(lost)?;
        match data {
            BackendData::Passive(announced) => {
                let route = self.machine.route().ok_or_else(lost)?;
                let client = self.relayed_client(route);
                backend.passive_endpoint(announced, Origin::Client(client))
            }
            BackendData::Active => {
                let listener = self.backend_listener.take().ok_or_else(lost)?;
                backend.active_endpoint(listener)
            }
        }
    }

    /// The address that the client's control connection has here.
    fn local_address(&self) -> io::Result<IpAddr> {
        match &self.client {
            Some(client) => Ok(client.stream().socket().local_addr()?.ip()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn lease_request(&self, protection: Protection) -> LeaseRequest {
        LeaseRequest {
            client: self.info.client.ip(),
            account: self.info.account(),
            identity: self.identity(protection),
            reuse_delay: self.snapshot.runtime.settings.passive.reuse_delay,
        }
    }

    /// How the client's next data connection is identified among others of its address.
    fn identity(&self, protection: Protection) -> Identity {
        let cache = match protection {
            Protection::Clear => None,
            Protection::Private => self.tls.client_cache(),
        };
        let Some(cache) = cache else {
            return Identity::Address;
        };
        match self.session_reuse() {
            SessionReuse::Require if self.tls.will_identify_itself() => Identity::Named(cache),
            SessionReuse::Require => Identity::Required(cache),
            SessionReuse::Prefer if self.tls.will_identify_itself() => Identity::Resuming(cache),
            SessionReuse::Prefer | SessionReuse::Off => Identity::Unproven(cache),
        }
    }

    /// The TLS of the client's next data connection.
    fn data_tls(&self, tickets: Tickets) -> DataTls {
        let reuse = self.session_reuse();
        match self.machine.login_certificate() {
            Some(own) => self.tls.data_showing(own.fingerprint, reuse, tickets),
            None => self.tls.data(reuse, tickets),
        }
    }

    /// The policy of the session's site.
    fn session_reuse(&self) -> SessionReuse {
        self.machine
            .route()
            .map_or(SessionReuse::Off, |route| route.site.session_reuse)
    }

    /// The policy of the session's site.
    fn close_notify(&self) -> CloseNotify {
        self.machine
            .route()
            .map_or(CloseNotify::Require, |route| route.site.close_notify)
    }

    pub(super) fn open_data(&mut self, direction: Direction, protection: Protection) {
        let DataSide::Prepared(prepared) = std::mem::replace(&mut self.data, DataSide::None) else {
            debug_assert!(
                false,
                "the machine has no data port without its data connections"
            );
            return self.fail_transfer(DataFailure::Internal);
        };
        let tickets = match direction {
            Direction::Upload => Tickets::None,
            Direction::Download | Direction::Listing => Tickets::Restock,
        };
        let limits = self.transfer_limits();
        let settings = &self.snapshot.runtime.settings;
        if protection != self.prepared_for {
            prepared.identify(self.identity(protection));
        }
        let client_tls = (protection == Protection::Private).then(|| self.data_tls(tickets));
        let backend = self.backend.as_ref();
        let backend_tls = backend.and_then(|backend| backend.tls.clone());
        let acceptance = Acceptance::of(backend_tls.as_ref());
        let context = TransferContext {
            direction,
            backend_tls,
            timeouts: settings.timeouts,
            silence: self.handshake_silence(),
            metrics: Arc::clone(&self.shared.metrics),
            site: String::from(&*self.info.site_name()),
            session: self.info.id,
            sent_id: self.info.sent_id(),
            client: self.info.client.ip(),
            close_notify: self.close_notify(),
            lingering: self.lingering.clone(),
            acceptance,
            faults: Faults::default(),
            limits,
            stats: TransferStats::new(self.shared.transfer_logs.told_of_content()),
        };
        self.transfers.begin(protection, &self.shared.metrics);
        let running = prepared.open(context, client_tls);
        self.show_transfer(&running, direction);
        self.data = DataSide::Running(running);
        self.record_beginning_transfer();
    }

    /// Shows the transfer that begins in the list of live sessions.
    fn show_transfer(&self, running: &RunningData, direction: Direction) {
        if let Some((command, _)) = self.machine.running_transfer() {
            self.info
                .set_transfer(CurrentTransfer::new(command, direction, running.count()));
        }
    }

    /// The limits of the next transfer, if the session's site has any.
    fn transfer_limits(&mut self) -> Option<TransferLimits> {
        let route = self.machine.route()?;
        let rates = route.site.policy.rates;
        rates.lowest()?;
        let pools = &self.snapshot.runtime.pools;
        let pool = pools.of(route.site_id, route.membership.group());
        Some(TransferLimits {
            rates,
            site: Arc::clone(pool.bandwidth()),
            session: Arc::clone(self.bandwidth.get_or_insert_default()),
            throttled: ThrottledTime::default(),
        })
    }

    /// A client that has not asked for PROT P may not know that it is in force, and wait for its file in clear text.
    fn handshake_silence(&self) -> Duration {
        let time_limit = self.snapshot.runtime.settings.timeouts.tls_handshake;
        if self.machine.has_chosen_protection() {
            time_limit
        } else {
            time_limit.min(SILENCE_WITHOUT_PROT)
        }
    }

    /// Reports to the machine whether the backend has accepted the running transfer's data connection.
    pub(super) fn report_acceptance(&mut self) {
        if let DataSide::Running(running) = &self.data
            && running.is_accepted_by_backend()
        {
            let accepted = Event::Data(DataEvent::BackendAccepted);
            self.pending_events.push_back(accepted);
        }
    }

    pub(super) fn drop_data(&mut self) {
        self.note_progress();
        self.data = DataSide::None;
        self.backend_listener = None;
    }

    /// Drops the backend's data connection, and leaves the client's for a while.
    pub(super) fn refuse_data(&mut self) {
        self.note_progress();
        if let Some(running) = self.data.take_running() {
            self.lingering.add(running.refuse());
        }
        self.drop_data();
    }

    /// Takes note of how far the running transfer has come, for its record.
    pub(super) fn note_progress(&mut self) {
        if let DataSide::Running(running) = &self.data {
            self.transfers.note_progress(progress_of(running));
        }
    }
}

/// The progress of a transfer.
pub(super) fn progress_of(running: &RunningData) -> Progress {
    Progress {
        bytes: running.moved(),
        elapsed: running.elapsed(),
        throttled: running.throttled(),
        stats: Some(running.stats().clone()),
    }
}
