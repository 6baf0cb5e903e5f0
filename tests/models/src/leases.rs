//! Three sessions of one client address, of two accounts, and one or two ports.
//!
//! The world knows what the table can't: for which lease each connection was opened, and by whom. A connection may
//! arrive up to `reuse_delay` after its lease's end. Clients keep their TLS sessions apart, or two of them share a
//! cache of which they present the newest entry. A stray never plays a transfer to its end: one that does is a thief, which
//! nothing tells from the client where that doesn't resume.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::base::{SessionId, SiteId};
use portcullis::passive::lease_table::{
    Attribution, ConnectionId, Effect, Identity, LeaseEnd, LeaseId, LeaseRequest, LeaseTable,
    PeekResult,
};
use portcullis::tls::{ClientCache, LoginId, TicketOwner};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SESSIONS: usize = 3;
const REUSE_DELAY: Duration = Duration::from_secs(2);
/// How late a connection may be: less than that.
const LATEST: Duration = Duration::from_millis(1_999);

/// How a session's data connections show whose they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Clear,
    /// Under TLS, resuming or not as the script says.
    Tls,
    /// The same, where the site requires resumption.
    Required,
}

struct Client {
    account: LoginId,
    kind: Kind,
    /// Whether its program keeps the TLS sessions of all its control connections in one place.
    shares: bool,
    cache: ClientCache,
    /// When its control connection's ticket was issued.
    ticket: u64,
    /// Its last data connection resumed.
    resumes: bool,
    lease: Option<Lease>,
}

struct Lease {
    id: LeaseId,
    /// Whether it only takes a connection that names its session.
    is_named: bool,
    port: Option<SocketAddr>,
    has_connected: bool,
    connection: Option<ConnectionId>,
    handshake: Handshake,
    standing: Attribution,
    /// When it was given up, of which its client isn't told before its transfer.
    given_up: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Due,
    Done,
}

struct Connection {
    /// None for a stray.
    opened_for: Option<LeaseId>,
    opener: Opener,
    /// When a late one has arrived at the latest.
    by: Option<Instant>,
    port: SocketAddr,
    state: State,
    /// The session whose TLS session its ClientHello offers.
    names: Option<SessionId>,
    /// Its client has closed it, since the transfer was refused.
    is_closed: bool,
}

/// The client that opened a connection, which may be gone by now.
#[derive(Clone, Copy)]
struct Opener {
    session: Option<SessionId>,
    is_tls: bool,
    shares: bool,
}

const STRAY: Opener = Opener {
    session: None,
    is_tls: false,
    shares: false,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    OnItsWay,
    Arrived,
    Peeked,
    Handed,
    Gone,
}

struct World {
    table: LeaseTable,
    now: Instant,
    ports: Arc<[SocketAddr]>,
    clients: Vec<Client>,
    connections: BTreeMap<ConnectionId, Connection>,
    wakes: Vec<Instant>,
    last: u64,
    moment: u64,
}

/// Plays what the bytes say.
pub fn play(script: &[u8]) {
    let mut bytes = script.iter().copied();
    let mut next = || bytes.next();
    let Some(setting) = next() else { return };
    let mut world = World::new(setting, next().unwrap_or_default());
    while let (Some(step), Some(choice)) = (next(), next()) {
        world.step(step, usize::from(choice));
    }
    world.all_are_served_in_the_end();
}

impl World {
    fn new(setting: u8, kinds: u8) -> Self {
        let port = |number: u16| SocketAddr::from(([127, 0, 0, 1], 30_000 + number));
        let ports = (0..1 + u16::from(setting & 1)).map(port).collect();
        let mut world = Self {
            table: LeaseTable::default(),
            now: Instant::now(),
            ports,
            clients: Vec::new(),
            connections: BTreeMap::new(),
            wakes: Vec::new(),
            last: 0,
            moment: 0,
        };
        for index in 0..SESSIONS {
            let kind = match (kinds >> (2 * index)) & 3 {
                0 => Kind::Clear,
                1 => Kind::Required,
                _ => Kind::Tls,
            };
            // Sessions 0 and 2 are of one account, and may be of one program.
            let shares = setting & 2 != 0 && index != 1 && kind == Kind::Tls;
            let account = if setting & 4 != 0 { 0 } else { index % 2 };
            let client = world.connect_control(account, kind, shares);
            world.clients.push(client);
        }
        // All came at once: none could offer another's ticket.
        for index in 0..SESSIONS {
            world.log_in(index);
        }
        world
    }

    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn connect_control(&mut self, account: usize, kind: Kind, shares: bool) -> Client {
        self.last += 1;
        let session = SessionId(self.last);
        Client {
            account: LoginId::of(
                Some(SiteId(0)),
                &[u8::try_from(account).unwrap_or_default()],
            ),
            kind,
            shares,
            cache: ClientCache::new(session),
            ticket: 0,
            resumes: false,
            lease: None,
        }
    }

    fn log_in(&mut self, index: usize) {
        let issued = self.tick();
        let received = self.tick();
        let client = &mut self.clients[index];
        client.ticket = issued;
        client.cache.on_issued(issued);
        client.cache.on_received(received);
    }

    /// The session whose entry is the newest one in the cache of this client.
    fn newest(&self, opener: Opener) -> Option<SessionId> {
        let program = self
            .clients
            .iter()
            .filter(|other| opener.shares && other.shares);
        let newest = program.max_by_key(|other| other.ticket);
        newest
            .map(|client| client.cache.session())
            .or(opener.session)
    }

    fn client_of(&self, session: SessionId) -> Option<usize> {
        self.clients
            .iter()
            .position(|client| client.cache.session() == session)
    }

    fn step(&mut self, step: u8, choice: usize) {
        let index = choice % SESSIONS;
        match step % 14 {
            0 | 1 => self.ask(index),
            2 => self.connect(index),
            3 | 4 => self.arrive(choice),
            5 | 6 => self.hear(choice),
            7 => self.handshake(index),
            8 => self.complete(index),
            9 if choice & 64 != 0 => self.refuse(index),
            9 => self.end(index),
            10 => self.quit(index),
            11 => self.stray(choice),
            12 => self.close(choice),
            _ => self.advance(Duration::from_millis(choice as u64 * 10)),
        }
    }

    /// PASV, and so the end of what it asked for before.
    fn ask(&mut self, index: usize) {
        self.end(index);
        self.last += 1;
        let id = LeaseId(self.last);
        let client = &self.clients[index];
        let identity = match client.kind {
            Kind::Clear => Identity::Address,
            Kind::Required if client.resumes && !client.cache.is_shared() => {
                Identity::Named(client.cache)
            }
            Kind::Required => Identity::Required(client.cache),
            Kind::Tls if client.resumes && !client.cache.is_shared() && self.is_separate(index) => {
                Identity::Resuming(client.cache)
            }
            Kind::Tls => Identity::Unproven(client.cache),
        };
        let request = LeaseRequest {
            client: CLIENT,
            account: client.account,
            identity,
            reuse_delay: REUSE_DELAY,
        };
        self.clients[index].lease = Some(Lease {
            id,
            is_named: false,
            port: None,
            has_connected: false,
            connection: None,
            handshake: Handshake::Due,
            standing: Attribution::Certain,
            given_up: None,
        });
        let ports = Arc::clone(&self.ports);
        let effects = self.table.request(id, request, &ports, self.now);
        self.apply(&effects);
    }

    /// Whether no other session of the account can have the same client.
    fn is_separate(&self, index: usize) -> bool {
        let client = &self.clients[index];
        let others = self.clients.iter().enumerate();
        others
            .filter(|(other, one)| *other != index && one.account == client.account)
            .all(|(_, other)| client.cache.is_separate_from(&other.cache))
    }

    fn connect(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let opener = Opener {
            session: Some(client.cache.session()),
            is_tls: client.kind != Kind::Clear,
            shares: client.shares,
        };
        if let Some(lease) = &mut client.lease
            && let Some(port) = lease.port
            && !lease.has_connected
        {
            lease.has_connected = true;
            let (opened_for, given_up) = (Some(lease.id), lease.given_up);
            let by = given_up.map(|at| at + LATEST);
            if by.is_none_or(|by| self.now <= by) {
                self.open(opened_for, opener, port, by);
            }
        }
    }

    fn open(
        &mut self,
        opened_for: Option<LeaseId>,
        opener: Opener,
        port: SocketAddr,
        by: Option<Instant>,
    ) {
        self.last += 1;
        let connection = Connection {
            opened_for,
            opener,
            by,
            port,
            state: State::OnItsWay,
            names: None,
            is_closed: false,
        };
        self.connections.insert(ConnectionId(self.last), connection);
    }

    fn pick(&self, state: State, choice: usize) -> Option<ConnectionId> {
        let fitting = self
            .connections
            .iter()
            .filter(|(_, one)| one.state == state);
        let fitting: Vec<ConnectionId> = fitting.map(|(id, _)| *id).collect();
        (!fitting.is_empty()).then(|| fitting[choice % fitting.len()])
    }

    fn arrive(&mut self, choice: usize) {
        if let Some(id) = self.pick(State::OnItsWay, choice) {
            self.deliver(id);
        }
    }

    fn deliver(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = State::Arrived;
            let port = connection.port;
            let effects = self.table.on_connection(id, CLIENT, port, self.now);
            self.apply(&effects);
        }
    }

    /// A connection says its ClientHello, or something else.
    fn hear(&mut self, choice: usize) {
        let Some(id) = self.pick(State::Arrived, choice) else {
            return;
        };
        let says_a_name = choice & 128 != 0;
        let opener = self.connections[&id].opener;
        let named = match opener.session {
            _ if !says_a_name => None,
            Some(_) => self.newest(opener).filter(|_| opener.is_tls),
            // On the wire the tickets of others can be read.
            None => Some(self.clients[choice % SESSIONS].cache.session()),
        };
        let heard = named
            .and_then(|session| self.client_of(session))
            .map_or(PeekResult::NoSession, |owner| {
                PeekResult::Session(self.whose(owner))
            });
        let is_own = self.is_own_and_named(id, named);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = State::Peeked;
            connection.names = named;
        }
        let effects = self.table.on_peeked(id, CLIENT, heard, self.now);
        self.apply(&effects);
        if is_own {
            let state = self.connections[&id].state;
            assert_eq!(
                state,
                State::Handed,
                "a connection that names its session gets there"
            );
        }
    }

    fn whose(&self, owner: usize) -> TicketOwner {
        let client = &self.clients[owner];
        TicketOwner {
            session: client.cache.session(),
            account: Some(client.account),
            cache: client.cache,
        }
    }

    /// Whether the connection names the session that waits for it and for no other one.
    fn is_own_and_named(&self, id: ConnectionId, named: Option<SessionId>) -> bool {
        let connection = &self.connections[&id];
        let (Some(opened_for), Some(session)) = (connection.opened_for, connection.opener.session)
        else {
            return false;
        };
        let Some(index) = self.client_of(session) else {
            return false;
        };
        let client = &self.clients[index];
        !client.cache.is_shared()
            && named == Some(client.cache.session())
            && client.lease.as_ref().is_some_and(|lease| {
                lease.id == opened_for
                    && lease.connection.is_none()
                    && lease.port.is_some()
                    && lease.standing == Attribution::Certain
            })
    }

    fn handshake(&mut self, index: usize) {
        let Some(lease) = &self.clients[index].lease else {
            return;
        };
        let (id, is_named, kind) = (lease.id, lease.is_named, self.clients[index].kind);
        let Some(connection) = lease
            .connection
            .filter(|_| lease.handshake == Handshake::Due)
        else {
            return;
        };
        let connection = &self.connections[&connection];
        let session = self.clients[index].cache.session();
        let opener = connection.opener;
        let holds_its_secrets =
            opener.session == Some(session) || (opener.shares && self.clients[index].shares);
        if kind == Kind::Clear {
            self.set_handshake(index, Handshake::Done);
        } else if connection.is_closed && !is_named {
            self.end(index);
        } else if !connection.is_closed && connection.names == Some(session) && holds_its_secrets {
            let at = self.tick();
            let client = &mut self.clients[index];
            client.resumes = true;
            client.cache.on_own_chosen(client.ticket, at);
            self.set_handshake(index, Handshake::Done);
            let effects = self.table.proven(CLIENT, id, self.now);
            self.apply(&effects);
        } else if is_named {
            self.clients[index].resumes = false;
            self.drop_connection(index);
            let effects = self.table.reopen(CLIENT, id, self.now);
            self.apply(&effects);
        } else {
            self.clients[index].resumes = false;
            self.set_handshake(index, Handshake::Done);
            let effects = self.table.unproven(CLIENT, id, self.now);
            self.apply(&effects);
        }
    }

    fn set_handshake(&mut self, index: usize, handshake: Handshake) {
        if let Some(lease) = &mut self.clients[index].lease {
            lease.handshake = handshake;
        }
    }

    fn drop_connection(&mut self, index: usize) {
        let lease = self.clients[index].lease.as_mut();
        if let Some(id) = lease.and_then(|lease| lease.connection.take())
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.state = State::Gone;
        }
    }

    /// The transfer comes to a good end, if its client plays it to that.
    fn complete(&mut self, index: usize) {
        let Some(lease) = &self.clients[index].lease else {
            return;
        };
        let Some(connection) = lease.connection else {
            return;
        };
        let is_over = lease.handshake == Handshake::Done && lease.standing == Attribution::Certain;
        let opened_for = self.connections[&connection].opened_for;
        if is_over && let Some(opened_for) = opened_for {
            assert_eq!(
                opened_for, lease.id,
                "a transfer is complete over a connection that was opened for another one"
            );
            self.finish(index, LeaseEnd::Complete);
        }
    }

    /// The backend would not begin the transfer: its client closes its connection, wherever that is on its way.
    fn refuse(&mut self, index: usize) {
        let Some(lease) = &self.clients[index].lease else {
            return;
        };
        let id = lease.id;
        let own = self.connections.values_mut();
        for connection in own.filter(|one| one.opened_for == Some(id)) {
            connection.is_closed = true;
        }
        self.finish(index, LeaseEnd::Refused);
    }

    /// Aborted, another PASV, too late.
    fn end(&mut self, index: usize) {
        self.finish(index, LeaseEnd::Incomplete);
    }

    fn finish(&mut self, index: usize, end: LeaseEnd) {
        self.drop_connection(index);
        let Some(lease) = self.clients[index].lease.take() else {
            return;
        };
        self.lose(lease.id);
        let effects = self.table.end(CLIENT, lease.id, end, self.now);
        self.apply(&effects);
    }

    /// What is on its way for a lease that is over comes late or not at all.
    fn lose(&mut self, lease: LeaseId) {
        for connection in self.connections.values_mut() {
            if connection
                .opened_for
                .is_some_and(|opened_for| opened_for == lease)
            {
                connection.by.get_or_insert(self.now + LATEST);
            }
        }
    }

    /// The session ends, and the next one takes its place.
    fn quit(&mut self, index: usize) {
        self.end(index);
        let (kind, shares) = (self.clients[index].kind, self.clients[index].shares);
        let account = self.clients[index].account;
        let fellow = self
            .clients
            .iter()
            .enumerate()
            .filter(|(other, client)| *other != index && shares && client.shares)
            .max_by_key(|(_, client)| client.ticket)
            .map(|(other, _)| other);
        let mut client = self.connect_control(0, kind, shares);
        client.account = account;
        if let Some(fellow) = fellow {
            client.cache.mark_shared();
            self.clients[fellow].cache.mark_shared();
        }
        self.clients[index] = client;
        self.log_in(index);
    }

    fn stray(&mut self, choice: usize) {
        let port = self.ports[choice % self.ports.len()];
        self.open(None, STRAY, port, None);
    }

    fn close(&mut self, choice: usize) {
        if let Some(id) = self.pick(State::Arrived, choice) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.state = State::Peeked;
                // Nothing comes to an end over it.
                connection.opened_for = None;
            }
            let effects = self
                .table
                .on_peeked(id, CLIENT, PeekResult::Closed, self.now);
            self.apply(&effects);
        }
    }

    /// Lets time go by, to each moment at which something happens.
    fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let on_its_way = self.connections.iter().filter_map(|(id, one)| {
                let by = one.by.filter(|_| one.state == State::OnItsWay)?;
                Some((by, Some(*id)))
            });
            let wakes = self.wakes.iter().map(|at| (*at, None));
            let Some((at, what)) = on_its_way
                .chain(wakes)
                .min_by_key(|(at, what)| (*at, what.is_none()))
            else {
                break;
            };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            match what {
                Some(late) => self.deliver(late),
                None => {
                    self.wakes.retain(|wake| *wake != at);
                    let effects = self.table.wake(CLIENT, self.now);
                    self.apply(&effects);
                }
            }
        }
        self.now = end;
    }

    fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Granted { lease, port, named } => {
                    let lease = self
                        .lease(lease)
                        .expect("a lease that has ended gets no port");
                    lease.is_named = named;
                    assert_eq!(lease.port.replace(port), None, "a lease has one port");
                }
                Effect::Assign { connection, lease } => {
                    let handed = self.connections.get_mut(&connection).expect("it is known");
                    assert!(matches!(handed.state, State::Arrived | State::Peeked));
                    handed.state = State::Handed;
                    let lease = self
                        .lease(lease)
                        .expect("a lease that has ended gets nothing");
                    assert_eq!(lease.connection.replace(connection), None);
                }
                Effect::Reset(connection, _) => {
                    let reset = self.connections.get_mut(&connection).expect("it is known");
                    assert_ne!(reset.state, State::Handed);
                    reset.state = State::Gone;
                }
                Effect::Attribution(lease, standing) => {
                    let now = self.now;
                    if let Some(lease) = self.lease(lease) {
                        lease.standing = standing;
                        if let Attribution::Ambiguous(_) = standing {
                            lease.given_up = Some(now);
                            let id = lease.id;
                            self.lose(id);
                        }
                    }
                }
                Effect::SharedCache { one, other } => {
                    for session in [one, other] {
                        if let Some(index) = self.client_of(session) {
                            self.clients[index].cache.mark_shared();
                        }
                    }
                }
                Effect::WakeAt(_, at) => self.wakes.push(at),
                Effect::Peek(_)
                | Effect::Unassigned(..)
                | Effect::Contended(..)
                | Effect::Refused(..) => {}
            }
        }
    }

    fn lease(&mut self, id: LeaseId) -> Option<&mut Lease> {
        let leases = self
            .clients
            .iter_mut()
            .filter_map(|client| client.lease.as_mut());
        leases.into_iter().find(|lease| lease.id == id)
    }

    /// Nobody waits for ever, and nothing remains.
    fn all_are_served_in_the_end(&mut self) {
        for _ in 0..=SESSIONS {
            self.advance(Duration::from_secs(10));
            for index in 0..SESSIONS {
                let client = &self.clients[index];
                if client
                    .lease
                    .as_ref()
                    .is_some_and(|lease| lease.port.is_some())
                {
                    self.end(index);
                }
            }
        }
        self.advance(Duration::from_secs(10));
        for client in &self.clients {
            assert!(
                client.lease.is_none(),
                "a lease that nothing is in the way of has a port"
            );
        }
        assert_eq!(self.table.pending(), 0);
        for connection in self.connections.values() {
            let is_open = matches!(connection.state, State::Arrived | State::Peeked);
            assert!(!is_open, "a connection that nobody waits for is reset");
        }
    }
}
