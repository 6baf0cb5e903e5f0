//! What comes of sessions, logins, handshakes and transfers: closed vocabularies.
//!
//! A value is the same in the code that decides, in a field of the log and as the label of a metric. One enum for each
//! label, so that nothing else can become one.

use crate::config::TlsVersion;

/// Defines an enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value that there is.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value as label and as log field.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

label! {
    /// The state of a backend.
    BackendStatus {
        /// It takes logins.
        Up = "up",
        /// A check has found it down.
        Down = "down",
        /// It was taken out after failures in a row.
        Ejected = "ejected",
        /// It takes no new logins.
        Drain = "drain",
        /// It has as many sessions as it may.
        Full = "full",
    }
}

label! {
    /// What has become of the order of a certificate.
    AcmeResult {
        /// There is a new certificate.
        Issued = "issued",
        /// There is none.
        Failed = "failed",
    }
}

label! {
    /// How far the order of a certificate came.
    AcmeStage {
        /// The directory of the authority, and the account there.
        Account = "account",
        /// The order itself.
        Order = "order",
        /// The authority looks whether the names are ours.
        Challenge = "challenge",
        /// The request for the certificate.
        Finalize = "finalize",
        /// The certificate, and the files for it.
        Download = "download",
    }
}

label! {
    /// Why a connection is refused before it becomes a session.
    LimitExceeded {
        /// As many sessions run as may run in all: `limits.sessions`.
        Total = "total",
        /// As many sessions run as one client may have: `limits.sessions_per_client`.
        PerClient = "per_client",
        /// This client has begun as many sessions as it may in a minute: `limits.sessions_per_client_per_minute`.
        Rate = "pace",
    }
}

label! {
    /// Why a connection that has to begin with a PROXY header was closed.
    ProxyHeaderFault {
        /// The peer is not one that is trusted to send headers.
        Untrusted = "untrusted",
        /// No complete header arrived in time.
        Missing = "missing",
        /// The received bytes are not a header.
        Malformed = "malformed",
    }
}

label! {
    /// How a login ended.
    LoginResult {
        /// The backend accepted the login.
        Accepted = "accepted",
        /// The backend didn't.
        Rejected = "rejected",
        /// The login named an unknown host, or no host and there is no default site.
        UnknownHost = "unknown_host",
        /// USER came in clear text although `tls.required` is set.
        ClearText = "clear_text",
        /// No backend of the site could be reached, or it broke off.
        BackendUnavailable = "backend_unavailable",
        /// `timeouts.login` ran out.
        TimedOut = "timed_out",
        /// The client had failed too often before; no password was sent to a backend.
        Blocked = "blocked",
        /// `limits.sessions_per_site` is reached; no backend was asked.
        SiteFull = "site_full",
        /// The site doesn't serve the client's network, or the user is in none of its groups.
        NotAllowed = "not_allowed",
        /// The site is out of service; no backend was asked.
        Maintenance = "maintenance",
    }
}

label! {
    /// What failed logins led to.
    GuardAction {
        /// A reply was held back.
        Delayed = "delayed",
        /// A client was blocked.
        Blocked = "blocked",
        /// Another client's count was evicted to make space for this one.
        Crowded = "crowded",
    }
}

label! {
    /// One side of the proxy.
    Leg {
        /// Between client and proxy.
        Client = "client",
        /// Between proxy and backend.
        Backend = "backend",
    }
}

label! {
    /// How the TLS handshake of a data connection ended.
    DataHandshake {
        /// Without resumption.
        Full = "full",
        /// As a resumption of an earlier session.
        Resumed = "resumed",
        /// Not at all.
        Failed = "failed",
    }
}

label! {
    /// Which of a session's data connections under TLS resumed the TLS session of its control connection, though all could.
    Resumption {
        /// All.
        Always = "always",
        /// Some.
        Sometimes = "sometimes",
        /// None.
        Never = "never",
    }
}

label! {
    /// The group by which a TLS handshake has agreed upon its keys.
    KeyExchange {
        /// X25519 together with ML-KEM-768, which a quantum computer doesn't break.
        X25519MlKem768 = "x25519mlkem768",
        /// X25519 alone.
        X25519 = "x25519",
        /// NIST's P-256.
        Secp256r1 = "secp256r1",
        /// NIST's P-384.
        Secp384r1 = "secp384r1",
        /// Any other.
        Other = "other",
    }
}

label! {
    /// Which way the bytes of a transfer go.
    Direction {
        /// From client to backend: STOR, APPE, STOU.
        Upload = "upload",
        /// From backend to client: RETR.
        Download = "download",
        /// From backend to client: LIST, NLST, MLSD.
        Listing = "listing",
    }
}

label! {
    /// In which form a server sends and takes files (RFC 959 §3.1.1): for the log.
    Representation {
        /// As a text: TYPE A, which is the default.
        Ascii = "ascii",
        /// As it is: TYPE I, and L 8.
        Binary = "binary",
        /// EBCDIC, and other forms of text or bytes.
        Other = "other",
    }
}

impl Default for Representation {
    /// RFC 959 §3.1.1.1.
    fn default() -> Self {
        Self::Ascii
    }
}

label! {
    /// How the client's data connection is established.
    DataMode {
        /// The client connects.
        Passive = "passive",
        /// Portcullis does.
        Active = "active",
    }
}

label! {
    /// What a hash of the relayed bytes is the hash of.
    HashedPart {
        /// The file.
        File = "file",
        /// What comes behind the transfer's offset, or was appended.
        Tail = "tail",
        /// A range of it, as RANG asks for.
        Range = "range",
        /// The bytes as they were sent, which in TYPE A, MODE Z and listings are not those of a file.
        Wire = "wire",
    }
}

label! {
    /// What became of a transfer.
    Verdict {
        /// The source ended in order, the sink took every byte, and the backend's last reply was 2xx.
        Complete = "complete",
        /// The client's data connection failed or broke off.
        FailedClient = "failed_client",
        /// The backend's data connection failed or broke off, or its last reply was 4xx or 5xx.
        FailedBackend = "failed_backend",
        /// Portcullis failed, or had no file descriptor, port or memory left.
        FailedProxy = "failed_proxy",
        /// The backend refused the command before any byte.
        Refused = "refused",
        /// The client sent ABOR, or the process ended.
        Aborted = "aborted",
    }
}

label! {
    /// How far connecting to a backend got before it failed.
    DialStage {
        /// Looking up the backend's name.
        Dns = "dns",
        /// The TCP connection.
        Connect = "connect",
        /// The backend's first reply.
        Greeting = "greeting",
        /// AUTH TLS.
        Auth = "auth",
        /// The TLS handshake, but for the certificate.
        Handshake = "handshake",
        /// The backend's certificate was refused.
        Certificate = "certificate",
        /// PBSZ and PROT.
        Protection = "protection",
        /// The reply to USER, or to a setting before it, while another backend could take over.
        User = "user",
    }
}

label! {
    /// The stages of an active check of a backend, in their order; those before `Login` are a login's as well.
    CheckStage {
        /// Looking up the backend's name.
        Dns = "dns",
        /// The TCP connection.
        Connect = "connect",
        /// The backend's first reply.
        Greeting = "greeting",
        /// AUTH TLS.
        Auth = "auth",
        /// The TLS handshake, but for the certificate.
        Handshake = "handshake",
        /// The backend's certificate was refused.
        Certificate = "certificate",
        /// PBSZ and PROT.
        Protection = "protection",
        /// USER and PASS of the probe.
        Login = "login",
        /// The data connection.
        Data = "data",
        /// LIST, its data to their end, and the reply after them.
        List = "list",
    }
}

label! {
    /// The stages of the command `probe`, in the order in which they are reported. Those that a check has are named as there.
    ProbeStage {
        /// Looking up the backend's name.
        Dns = "dns",
        /// The TCP connection.
        Connect = "connect",
        /// The backend's first reply; under implicit TLS it comes behind the handshake.
        Greeting = "greeting",
        /// AUTH TLS.
        Auth = "auth",
        /// The TLS handshake, but for the certificate.
        Handshake = "handshake",
        /// The backend's certificate.
        Certificate = "certificate",
        /// PBSZ and PROT.
        Protection = "protection",
        /// USER and PASS.
        Login = "login",
        /// FEAT.
        Features = "features",
        /// EPSV and PASV, or PORT.
        Passive = "passive",
        /// The data connection.
        Data = "data",
        /// Its TLS handshake.
        DataHandshake = "data_handshake",
        /// LIST, its data to their end, and the reply after them.
        List = "list",
    }
}

impl From<DialStage> for ProbeStage {
    fn from(stage: DialStage) -> Self {
        match stage {
            DialStage::Dns => Self::Dns,
            DialStage::Connect => Self::Connect,
            DialStage::Greeting => Self::Greeting,
            DialStage::Auth => Self::Auth,
            DialStage::Handshake => Self::Handshake,
            DialStage::Certificate => Self::Certificate,
            DialStage::Protection => Self::Protection,
            DialStage::User => Self::Login,
        }
    }
}

impl From<DialStage> for CheckStage {
    fn from(stage: DialStage) -> Self {
        match stage {
            DialStage::Dns => Self::Dns,
            DialStage::Connect => Self::Connect,
            DialStage::Greeting => Self::Greeting,
            DialStage::Auth => Self::Auth,
            DialStage::Handshake => Self::Handshake,
            DialStage::Certificate => Self::Certificate,
            DialStage::Protection => Self::Protection,
            DialStage::User => Self::Login,
        }
    }
}

label! {
    /// What is reloaded.
    ReloadSubject {
        /// A client certificate for backends, and its key.
        BackendClientCertificate = "backend_certificate",
        /// The central certificate and its key.
        Certificate = "certificate",
        /// The configuration file.
        Configuration = "configuration",
        /// The address that a name in the configuration's `passive` section has.
        PassiveAddress = "passive_address",
        /// A file with the users of a group.
        Users = "users",
        /// The authorities and the revocation lists of clients' certificates.
        ClientCertificates = "client_certificates",
        /// A file with the passwords of users who have certificates.
        Credentials = "credentials",
    }
}

label! {
    /// What became of a reload.
    ReloadResult {
        /// The new state serves new sessions.
        Ok = "ok",
        /// The new state is broken, and the old one stays.
        Refused = "refused",
    }
}

/// How the TLS handshake of a client's control connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeResult {
    /// Done, in this version.
    Ok(TlsVersion),
    /// Broken off by an alert, or by what isn't TLS.
    Failed,
    /// `timeouts.tls_handshake` ran out.
    TimedOut,
}

impl HandshakeResult {
    /// Every result that there is.
    pub const ALL: [Self; 4] = [
        Self::Ok(TlsVersion::V1_2),
        Self::Ok(TlsVersion::V1_3),
        Self::Failed,
        Self::TimedOut,
    ];

    /// The values of the labels `result` and `version`.
    pub fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Ok(version) => ["ok", version.as_str()],
            Self::Failed => ["failed", "none"],
            Self::TimedOut => ["timed_out", "none"],
        }
    }
}
