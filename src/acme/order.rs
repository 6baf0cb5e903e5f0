//! One order, from the account to the files of the certificate (RFC 8555 §7.4).
//!
//! A request is repeated at once only where the authority reports that nothing was done: for a nonce that it doesn't accept.
//! Everything else is a failed order, and the schedule says when the next one begins.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Identifier, KeyAuthorization, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::PATIENCE_TIME;
use super::challenge::dns::{TxtRecord, remove_left};
use super::challenge::{self, Proof, Shown};
use super::failure::{Cause, OrderError, QuestionError, error_text, is, refuses_request, shown};
use super::http::Client;
use super::schedule::Window;
use super::state::{State, StoredAccount, Wanted};
use crate::base::task::unless_it_panics;
use crate::config::{AcmeChallenge, AcmeSettings, HostPattern};
use crate::outcome::AcmeStage;
use crate::tls::CertificatePair;

/// How often a request is repeated whose nonce is not taken. The library has tried three times then.
const BAD_NONCES: usize = 5;

/// When the authority is asked again whether it has looked at a name, or issued.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.2)
    .timeout(PATIENCE_TIME);

/// For a whole order: other instances that share the directory wait for it. Challenges are removed after that.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How many TXT records are written down: those of an order, and those that earlier ones couldn't remove.
const MAX_RECORDS: usize = 500;

/// Repeats a request whose nonce was not taken, before which nothing has been done.
macro_rules! with_fresh_nonce {
    ($request:expr) => {{
        let mut left = BAD_NONCES;
        loop {
            match $request.await {
                Err(error) if left > 0 && is(&error, "badNonce") => left -= 1,
                other => break other,
            }
        }
    }};
}

/// Orders for one configuration.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub settings: Arc<AcmeSettings>,
    pub wanted: Arc<Wanted>,
    pub state: State,
    pub client: Client,
}

impl Orders {
    /// Orders a certificate in place of the one there, and puts it into the files; breaks off when it is stopped.
    ///
    /// # Errors
    /// How far it came, and why no farther. Whatever it has shown to the authority is taken away again.
    pub async fn order(
        &self,
        replaced: Option<&CertificateIdentifier<'static>>,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<CertificatePair, OrderError> {
        let mut stage = AcmeStage::Account;
        let mut limits = Limits {
            stopped,
            deadline: Instant::now() + ORDER_TIMEOUT,
        };
        let failed = |stage, cause, retry_after| OrderError {
            stage,
            cause,
            retry_after,
        };
        let orders = self.with_roots_of_now().await;
        let orders = orders.map_err(|cause| failed(stage, cause, None))?;
        let last = orders.client.last_refusal();
        let result = orders.go_through(&mut stage, replaced, &mut limits).await;
        result.map_err(|cause| failed(stage, cause.referred(last.page()), last.retry_after()))
    }

    /// A copy with the roots read anew, as they may have been replaced since: a process outlives an authority's certificate.
    async fn with_roots_of_now(&self) -> Result<Self, Cause> {
        let settings = Arc::clone(&self.settings);
        let client = self.apart(move |_| Client::new(settings.ca.as_deref()));
        Ok(Self {
            client: client.await?,
            ..self.clone()
        })
    }

    async fn go_through(
        &self,
        stage: &mut AcmeStage,
        replaced: Option<&CertificateIdentifier<'static>>,
        limits: &mut Limits<'_>,
    ) -> Result<CertificatePair, Cause> {
        let mut order = limits
            .within(self.begin_by_account(stage, replaced))
            .await??;
        *stage = AcmeStage::Challenge;
        self.prove(&mut order, limits).await?;
        *stage = AcmeStage::Finalize;
        // What is issued and can't be kept has used up a part of the authority's limits.
        self.apart(State::try_to_write).await?;
        let (chain, key) = limits.within(self.finalize(&mut order, stage)).await??;
        // Short, and better finished than left half done.
        let wanted = Arc::clone(&self.wanted);
        let placing =
            self.apart(move |state| state.replace_pair(&chain, &key, &wanted, SystemTime::now()));
        placing.await
    }

    /// The order, by the account that there is, or by a new one where the authority has lost that or was set up anew.
    async fn begin_by_account(
        &self,
        stage: &mut AcmeStage,
        replaced: Option<&CertificateIdentifier<'static>>,
    ) -> Result<Order, Cause> {
        let account = self.account().await?;
        *stage = AcmeStage::Order;
        match self.begin(&account, replaced).await {
            Err(Cause::Authority(error)) if is(&error, "accountDoesNotExist") => {
                tracing::warn!(
                    error = error_text(&error),
                    "the authority doesn't know the account any more, making another one"
                );
                self.apart(State::forget_account).await?;
                *stage = AcmeStage::Account;
                let account = self.account().await?;
                *stage = AcmeStage::Order;
                self.begin(&account, replaced).await
            }
            other => other,
        }
    }

    /// The account of this directory, which is made if there is none.
    async fn account(&self) -> Result<Account, Cause> {
        let settings = &*self.settings;
        let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
        let external = settings.external_account.as_ref();
        let key_id = external.map(|account| account.key_id.clone());
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        let stored = self.apart(|state| state.account()).await?;
        let stored = stored
            .filter(|it| it.directory == settings.directory_url && it.external_account == key_id);
        let (account, credentials) = match stored {
            Some(stored) => {
                let account = builder()
                    .from_credentials(clone(&stored.credentials)?)
                    .await?;
                if stored.contact == settings.contact {
                    return Ok(account);
                }
                with_fresh_nonce!(account.update_contacts(&contact))?;
                (account, stored.credentials)
            }
            None => {
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let external = external.map(|account| {
                    let key = account.hmac.secret.expose();
                    instant_acme::ExternalAccountKey::new(account.key_id.clone(), key)
                });
                let url = || settings.directory_url.clone();
                let created = with_fresh_nonce!(builder().create(&new, url(), external.as_ref()))?;
                tracing::info!(
                    account = shown(created.0.id()),
                    "account at the certificate authority made"
                );
                created
            }
        };
        let stored = StoredAccount {
            directory: settings.directory_url.clone(),
            contact: settings.contact.clone(),
            external_account: key_id,
            credentials,
        };
        self.apart(move |state| state.set_account(&stored)).await?;
        Ok(account)
    }

    async fn begin(
        &self,
        account: &Account,
        replaced: Option<&CertificateIdentifier<'static>>,
    ) -> Result<Order, Cause> {
        let profile = self.settings.profile.as_deref();
        if let Some(wanted) = profile {
            let offered: Vec<String> = account.profiles().map(|it| it.name.to_owned()).collect();
            if !offered.iter().any(|name| name == wanted) {
                let wanted = wanted.to_owned();
                return Err(Cause::Profile { wanted, offered });
            }
        }
        let names = self.settings.names.iter();
        let identifiers: Vec<_> = names
            .map(|name| Identifier::Dns(name.to_string()))
            .collect();
        let order = |replaced: Option<&CertificateIdentifier<'static>>| {
            let mut order = NewOrder::new(&identifiers);
            if let Some(profile) = profile {
                order = order.profile(profile);
            }
            match replaced {
                Some(id) => order.replaces(id.clone()),
                None => order,
            }
        };
        if let Some(id) = replaced {
            let new = order(Some(id));
            match with_fresh_nonce!(account.new_order(&new)) {
                Ok(order) => return Ok(order),
                // The authority knows no such certificate any more, or has replaced it already.
                Err(error) if refuses_request(&error) => tracing::debug!(
                    error = error_text(&error),
                    "order that replaces a certificate refused, ordering without that"
                ),
                Err(error) => return Err(error.into()),
            }
        }
        let new = order(None);
        Ok(with_fresh_nonce!(account.new_order(&new))?)
    }

    /// Shows the authority that the names are ours, and waits until it has seen it.
    async fn prove(&self, order: &mut Order, limits: &mut Limits<'_>) -> Result<(), Cause> {
        let proofs = limits.within(self.proofs(order)).await??;
        if proofs.is_empty() {
            // All names were proven of late. The order may still have to find that out.
            return limits.within(self.ready(order)).await?;
        }
        let mut left = self.remove_left(limits).await?;
        let mut shown = Shown::prepare(&self.settings.challenge, &proofs)?;
        // Where an authority asks for the same once more, it is this order's.
        left.retain(|record| !shown.records().contains(record));
        // Written down before they are made: a process that is killed leaves them to the next one.
        self.keep_records([&left, shown.records()].concat()).await?;
        let proving = async {
            shown.show().await?;
            self.announce(order).await?;
            self.ready(order).await
        };
        let proven = limits.within(proving).await;
        left.extend(shown.take_away().await);
        let kept = self.keep_records(left).await;
        // Why the names are not proven says more than a disk that is full as well.
        proven??;
        kept
    }

    /// Removes the records that earlier orders have left, as far as the program for it can; those that are left still, which stay
    /// written down.
    async fn remove_left(&self, limits: &mut Limits<'_>) -> Result<Vec<TxtRecord>, Cause> {
        let left = self.apart(State::left_records_or_none).await?;
        if left.is_empty() {
            return Ok(left);
        }
        match &self.settings.challenge {
            AcmeChallenge::Dns(program) => {
                tracing::info!(
                    count = left.len(),
                    "removing the TXT records that earlier orders have left"
                );
                limits.within(remove_left(program, left)).await
            }
            AcmeChallenge::Http(_) | AcmeChallenge::TlsAlpn(_) => {
                let file = self.state.records_file();
                for record in &left {
                    record.warn_without_program(&file);
                }
                Ok(left)
            }
        }
    }

    /// Writes down the records that have to be removed.
    async fn keep_records(&self, mut records: Vec<TxtRecord>) -> Result<(), Cause> {
        // The oldest ones go where none can ever be removed.
        records.drain(..records.len().saturating_sub(MAX_RECORDS));
        self.apart(move |state| state.keep_records(&records)).await
    }

    /// The proofs that have to be shown.
    async fn proofs(&self, order: &mut Order) -> Result<Vec<Proof>, Cause> {
        let kind = challenge::kind(&self.settings.challenge);
        let (wanted, ordered) = (
            order.state().authorizations.len(),
            self.settings.names.len(),
        );
        if wanted > ordered {
            return Err(Cause::TooManyProofs { wanted, ordered });
        }
        with_fresh_nonce!(fetch_authorizations(order))?;
        let mut proofs = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let identifier = authorization.identifier().identifier;
            let name = ordered_name(&self.settings.names, identifier)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Some(challenge) = authorization.challenge(kind.clone()) else {
                let kind = self.settings.challenge.as_str();
                return Err(Cause::NotOffered { kind, name });
            };
            let token = challenge.token.clone();
            let authorization: KeyAuthorization = challenge.key_authorization();
            proofs.push(Proof {
                name,
                token,
                authorization,
            });
        }
        Ok(proofs)
    }

    /// Waits until all names are proven.
    async fn ready(&self, order: &mut Order) -> Result<(), Cause> {
        if order.state().status == OrderStatus::Ready {
            return Ok(());
        }
        match with_fresh_nonce!(order.poll_ready(&PATIENCE)) {
            Ok(OrderStatus::Invalid) => Err(what_is_invalid(order).await),
            Ok(_) => Ok(()),
            // The order says less than the name at which the authority has failed.
            Err(instant_acme::Error::Api(problem)) => {
                let last = self.client.last_refusal();
                let refusal = last.take();
                let cause = match what_is_invalid(order).await {
                    Cause::Refused(precise) => Cause::Refused(precise),
                    _ => Cause::Refused(Box::new(problem)),
                };
                // When to come again is said of the order, not of its names.
                last.put_back(refusal);
                Err(cause)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the authority to look.
    async fn announce(&self, order: &mut Order) -> Result<(), Cause> {
        let kind = challenge::kind(&self.settings.challenge);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(kind.clone()) {
                with_fresh_nonce!(challenge.set_ready())?;
            }
        }
        Ok(())
    }

    /// Finalizes the order, so that the certificate is issued; returns its chain and the new key, both PEM.
    async fn finalize(
        &self,
        order: &mut Order,
        stage: &mut AcmeStage,
    ) -> Result<(String, String), Cause> {
        let names = self.settings.names.iter().map(HostPattern::to_string);
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        let request = params.serialize_request(&key)?;
        if order.state().status == OrderStatus::Ready {
            with_fresh_nonce!(order.finalize_csr(request.der()))?;
        }
        *stage = AcmeStage::Download;
        let chain = with_fresh_nonce!(order.poll_certificate(&PATIENCE))?;
        Ok((chain, key.serialize_pem()))
    }

    /// The authority's suggestion when to renew this certificate (RFC 9773), if it makes one, and the time after which it may be
    /// asked again.
    pub async fn suggestion(
        &self,
        id: &CertificateIdentifier<'static>,
    ) -> Result<(Option<Window>, Option<Duration>), QuestionError> {
        let failed = |cause, retry_after| QuestionError { cause, retry_after };
        let orders = self.with_roots_of_now().await;
        let orders = orders.map_err(|cause| failed(cause, None))?;
        let said = orders.ask_about(id).await;
        said.map_err(|cause| failed(cause, orders.client.last_refusal().retry_after()))
    }

    async fn ask_about(
        &self,
        id: &CertificateIdentifier<'static>,
    ) -> Result<(Option<Window>, Option<Duration>), Cause> {
        let stored = self.apart(|state| state.account()).await?;
        let stored = stored.filter(|it| it.directory == self.settings.directory_url);
        let Some(stored) = stored else {
            // The certificate came from elsewhere.
            return Ok((None, None));
        };
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let account = builder.from_credentials(stored.credentials).await?;
        match account.renewal_info(id).await {
            Ok((info, retry_after)) => {
                let window = Window {
                    start: info.suggested_window.start.into(),
                    end: info.suggested_window.end.into(),
                };
                if let Some(url) = &info.explanation_url {
                    tracing::info!(url = shown(url), "the authority explains when to renew");
                }
                Ok((Some(window), Some(retry_after)))
            }
            Err(instant_acme::Error::Unsupported(_)) => Ok((None, None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs an operation on the directory, on a thread on which that may block.
    pub async fn apart<T, E>(
        &self,
        what: impl FnOnce(&State) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Cause>
    where
        T: Send + 'static,
        E: Into<Cause> + Send + 'static,
    {
        let state = self.state.clone();
        match spawn_blocking(move || what(&state)).await {
            Ok(result) => result.map_err(Into::into),
            Err(panicked) => Err(Cause::Internal(panicked.to_string())),
        }
    }
}

/// The name that the authority wants a proof of, without the star of a wildcard. It becomes that of a TXT record, so it has to be
/// one that was ordered.
fn ordered_name(names: &[HostPattern], wanted: &Identifier) -> Result<String, Cause> {
    let name = match wanted {
        Identifier::Dns(name) => name,
        other => return Err(Cause::NotOrdered(shown(&format!("{other:?}")))),
    };
    let ordered = names.iter().map(|ordered| {
        let ordered = ordered.to_string().to_ascii_lowercase();
        ordered
            .strip_prefix("*.")
            .map(str::to_owned)
            .unwrap_or(ordered)
    });
    let mut found = ordered.filter(|ordered| ordered.eq_ignore_ascii_case(name));
    found.next().ok_or_else(|| Cause::NotOrdered(shown(name)))
}

/// Asks for those authorizations of the order that it doesn't know yet: later it yields them without asking.
async fn fetch_authorizations(order: &mut Order) -> Result<(), instant_acme::Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        authorization?;
    }
    Ok(())
}

/// The fault that the authority found with the first name that it didn't accept.
async fn what_is_invalid(order: &mut Order) -> Cause {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if with_fresh_nonce!(authorization.refresh()).is_err() {
            break;
        }
        let name = authorization.identifier().to_string();
        let mut errors = authorization
            .challenges
            .iter()
            .filter_map(|it| it.error.clone());
        if let Some(mut problem) = errors.next() {
            let detail = problem.detail.take().unwrap_or_default();
            problem.detail = Some(format!("{name}: {detail}"));
            return Cause::Refused(Box::new(problem));
        }
    }
    Cause::Internal("the authority calls the order invalid, and doesn't say why".to_owned())
}

/// The library takes the credentials for itself, and they are kept.
fn clone(
    credentials: &instant_acme::AccountCredentials,
) -> Result<instant_acme::AccountCredentials, Cause> {
    let failed = |_| Cause::Internal("the account's key can't be copied".to_owned());
    let value = serde_json::to_value(credentials).map_err(failed)?;
    serde_json::from_value(value).map_err(failed)
}

/// Limits that end an order before it is done.
struct Limits<'a> {
    stopped: &'a mut watch::Receiver<bool>,
    deadline: Instant,
}

impl Limits<'_> {
    /// The result of this part of the order. A panic is a failure like any other, and its challenges are removed.
    async fn within<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Cause> {
        let work = unless_it_panics(timeout_at(self.deadline, work));
        match unless(self.stopped, work).await? {
            Some(in_time) => in_time.map_err(|_| Cause::TimedOut),
            None => Err(Cause::Internal("the order panicked".to_owned())),
        }
    }
}

/// The result of `work`, unless it is stopped before.
pub(super) async fn unless<T>(
    stopped: &mut watch::Receiver<bool>,
    work: impl Future<Output = T>,
) -> Result<T, Cause> {
    tokio::select! {
        biased;
        // Also when the sender is gone.
        _ = stopped.wait_for(|stopped| *stopped) => Err(Cause::Stopped),
        done = work => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_parts_of_an_order_have_one_deadline_and_may_panic() {
        let (stop, mut stopped) = watch::channel(false);
        let mut limits = Limits {
            stopped: &mut stopped,
            deadline: Instant::now() + ORDER_TIMEOUT,
        };
        let most = tokio::time::sleep(ORDER_TIMEOUT - Duration::from_secs(1));
        limits.within(most).await.unwrap();
        let panicked = limits.within(async { panic!("by a test") }).await;
        assert!(matches!(panicked, Err::<(), _>(Cause::Internal(_))));
        let never = limits.within(std::future::pending::<()>()).await;
        assert!(matches!(never, Err(Cause::TimedOut)));
        assert_eq!(limits.deadline, Instant::now());
        stop.send_replace(true);
        let stopped = limits.within(std::future::pending::<()>()).await;
        assert!(matches!(stopped, Err(Cause::Stopped)));
    }

    #[tokio::test]
    async fn the_roots_are_read_anew_before_each_order() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        let root = rcgen::generate_simple_self_signed(["root.test".to_owned()]).unwrap();
        std::fs::write(&ca, root.cert.pem()).unwrap();
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
             tls: {{acme: {{directory_url: \"https://127.0.0.1:1/\", ca: {ca:?}, state: acme, names: [a.test], \
             challenge: {{dns: hook}}}}}}\n\
             sites: [{{name: only, default: true, backends: [{{address: 192.0.2.1}}]}}]\n"
        );
        let file = directory.path().join("portcullis.yaml");
        let settings = crate::config::parse(&text, &file)
            .unwrap()
            .tls
            .acme
            .unwrap();
        let orders = Orders {
            wanted: Arc::new(Wanted::by(&settings)),
            state: State::open(&settings.state).unwrap(),
            client: Client::new(Some(&ca)).unwrap(),
            settings: Arc::new(settings),
        };
        let (_stop, mut stopped) = watch::channel(false);
        let mut failure = async || {
            let failed = orders.order(None, &mut stopped).await.unwrap_err();
            failed.cause.to_string()
        };
        // Nothing listens there.
        let error = failure().await;
        assert!(error.contains("connection to 127.0.0.1"), "{error}");
        std::fs::write(&ca, "").unwrap();
        let error = failure().await;
        assert!(error.starts_with("`tls.acme.ca`: "), "{error}");
        std::fs::write(&ca, root.cert.pem()).unwrap();
        let error = failure().await;
        assert!(error.contains("connection to 127.0.0.1"), "{error}");
    }

    #[test]
    fn only_names_that_were_ordered_are_proven() {
        let names = ["a.test", "*.B.test"].map(|name| HostPattern::parse(name).unwrap());
        let proven = |name: &str| ordered_name(&names, &Identifier::Dns(name.to_owned()));
        assert_eq!(proven("A.test").unwrap(), "a.test");
        assert_eq!(proven("b.test").unwrap(), "b.test");
        for other in ["", "c.test", "*.b.test", "x.b.test", "a.test.", "a.test\0"] {
            assert!(proven(other).is_err(), "{other:?}");
        }
        let address = Identifier::Ip([192, 0, 2, 1].into());
        assert!(ordered_name(&names, &address).is_err());
    }

    #[test]
    fn a_name_that_was_not_ordered_can_not_act_on_a_log() {
        let names = [HostPattern::parse("a.test").unwrap()];
        let name = "a.test\nsend\u{1b}[2J".to_owned();
        let error = ordered_name(&names, &Identifier::Dns(name)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("not ordered: a.test"), "{text}");
        assert!(!text.contains(['\n', '\u{1b}']), "{text:?}");
    }
}
