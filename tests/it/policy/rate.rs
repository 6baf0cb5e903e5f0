//! Bandwidth of sites and sessions. Times are asserted in the direction in which a busy machine doesn't change them: what is
//! limited takes at least as long as its rate says, and what is not is far from that.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use testkit::config::Site;
use testkit::front::{Client, Front, NAME};
use testkit::log::LogLine;
use testkit::proxy::{Proxy, Signal};
use testkit::proxy_header::v1;
use testkit::raw::{Raw, open_data, protect};
use testkit::script::{Script, Step, reply};
use testkit::scripted::Backend;
use testkit::server::Security;
use testkit::wire::{End, Wire};
use testkit::{content, vsftpd};

use crate::program::Start;
use crate::stage::Stage;

/// 100 kB a second.
const SLOW: &str = "{session: 800k}";
const SLOW_BYTES: usize = 100_000;

/// What a second and a half takes at that rate.
const FILE: usize = 150_000;

/// What an idle limit lets through at once: an eighth of a second's worth, and one more piece of that size.
const AT_ONCE: Duration = Duration::from_millis(250);

fn stage(script: Script, rate: &str) -> Stage {
    Stage::before(script, |site| site.set("rate", rate), |config| config)
}

/// How long it takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

/// So many bytes came no faster than this.
#[track_caller]
fn assert_limited(bytes: usize, bytes_a_second: usize, took: Duration) {
    let least = Duration::from_secs_f64(bytes as f64 / bytes_a_second as f64) - AT_ONCE;
    assert!(took >= least, "{bytes} bytes took {took:?}");
}

fn transfer_line(proxy: &Proxy, command: &str) -> LogLine {
    proxy.wait_for_log(|line| line.field("command").as_deref() == Some(command))
}

fn held_back(proxy: &Proxy, direction: &str) -> f64 {
    let labels = format!("{{direction=\"{direction}\",site=\"only\"}}");
    proxy.metric(&format!("portcullis_rate_limited_seconds_total{labels}"))
}

/// Holds the line, the log and the metric against how long it took.
#[track_caller]
fn assert_told(proxy: &Proxy, command: &str, direction: &str, took: Duration) {
    let line = transfer_line(proxy, command);
    assert_eq!(line.message(), "transfer complete");
    let told: f64 = line.field("held_back").unwrap().parse().unwrap();
    let counted = held_back(proxy, direction);
    for seconds in [told, counted] {
        assert!(
            0.5 < seconds && seconds <= took.as_secs_f64(),
            "{seconds} of {took:?}"
        );
    }
}

fn clear_data(client: &mut Raw, command: &str) -> Wire {
    let data = open_data(client.epsv());
    client.command(command, 150);
    data
}

/// A backend whose file has no end.
fn endless() -> Script {
    Script::new().on(
        "RETR",
        [
            reply("150 here it comes"),
            Step::OpenData,
            Step::Pour(vec![7; 16 * 1024]),
        ],
    )
}

#[test]
fn a_download_takes_as_long_as_the_rate_says() {
    let file = content::bytes(1, FILE);
    let stage = stage(Script::new().file("a", &*file), SLOW);
    let mut client = stage.session();
    let (received, took) = timed(|| client.download("a"));
    assert_eq!(received, file);
    assert_limited(FILE, SLOW_BYTES, took);
    assert_told(&stage.proxy, "RETR", "download", took);
}

#[test]
fn a_download_in_clear_text_does_so_too() {
    let file = content::bytes(2, FILE);
    let stage = stage(Script::new().file("a", &*file), SLOW);
    let mut client = stage.clear_session();
    let (received, took) = timed(|| {
        let mut data = clear_data(&mut client, "RETR a");
        let received = data.read_to_end();
        client.expect(226);
        received
    });
    assert_eq!(received, (file, End::Fin));
    assert_limited(FILE, SLOW_BYTES, took);
}

#[test]
fn an_upload_takes_as_long_as_the_rate_says() {
    let file = content::bytes(3, FILE);
    let stage = stage(Script::new(), SLOW);
    let mut client = stage.session();
    let ((), took) = timed(|| client.upload("a", &file));
    assert_eq!(stage.backend.wait_for_upload(1).content, file);
    assert_limited(FILE, SLOW_BYTES, took);
    assert_told(&stage.proxy, "STOR", "upload", took);
}

#[test]
fn an_upload_in_clear_text_does_so_too_and_its_end_counts() {
    let file = content::bytes(4, FILE);
    let stage = stage(Script::new(), SLOW);
    let mut client = stage.clear_session();
    let ((), took) = timed(|| {
        let mut data = clear_data(&mut client, "STOR a");
        data.write_all(&file).expect("the proxy reads");
        data.end(End::Fin).expect("the proxy is there");
        client.expect(226);
    });
    let received = stage.backend.wait_for_upload(1);
    assert_eq!((received.content, received.end), (file, End::Fin));
    assert_limited(FILE, SLOW_BYTES, took);
}

#[test]
fn a_listing_takes_as_long_as_the_rate_says() {
    let lines = content::bytes(5, FILE);
    let list = [
        reply("150 here it comes"),
        Step::OpenData,
        Step::Send(lines.clone()),
        Step::EndData(End::CloseNotify),
        reply("226 done"),
    ];
    let stage = stage(Script::new().on("LIST", list), SLOW);
    let mut client = stage.session();
    let (received, took) = timed(|| {
        let data = client.begin("LIST");
        client.finish_download(data)
    });
    assert_eq!(received, lines);
    assert_limited(FILE, SLOW_BYTES, took);
    assert_told(&stage.proxy, "LIST", "listing", took);
}

#[test]
fn many_small_files_of_a_session_are_as_slow_as_a_large_one() {
    let file = content::bytes(6, FILE / 15);
    let stage = stage(Script::new().file("a", &*file), SLOW);
    let mut client = stage.session();
    let ((), took) = timed(|| {
        for _ in 0..15 {
            assert_eq!(client.download("a"), file);
        }
    });
    assert_limited(FILE, SLOW_BYTES, took);
}

#[test]
fn the_sessions_of_a_site_share_its_rate() {
    let stage = stage(endless(), "{site: 1600k}");
    let (mut private, mut clear) = (stage.session(), stage.clear_session());
    let downloads = [private.begin("RETR a"), clear_data(&mut clear, "RETR a")];
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let (both, total) = (Arc::new(Barrier::new(2)), 400_000);
    let read = |(own, mut data): (usize, Wire)| {
        let (counts, both) = (Arc::clone(&counts), Arc::clone(&both));
        thread::spawn(move || {
            both.wait();
            let count = |it: &AtomicUsize| it.load(Ordering::Relaxed);
            while counts.iter().map(count).sum::<usize>() < total {
                let read = data.read(&mut [0; 16 * 1024]).expect("it goes on");
                counts[own].fetch_add(read, Ordering::Relaxed);
            }
        })
    };
    let (reading, took) = timed(|| {
        let reading: Vec<_> = downloads.into_iter().enumerate().map(read).collect();
        reading.into_iter().all(|thread| thread.join().is_ok())
    });
    assert!(reading);
    let shares = counts.each_ref().map(|it| it.load(Ordering::Relaxed));
    assert!(shares.iter().all(|it| *it >= total / 4), "{shares:?}");
    // Two seconds' worth, less what the connections had taken in before.
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[test]
fn another_site_is_not_slowed() {
    let front = Front::new(&[]);
    let (slow, fast) = (Backend::start(endless()), {
        Backend::start(Script::new().file("a", content::bytes(7, 4_000_000)))
    });
    let slow_site = Site::hosts("slow", &["slow.test"], slow.address()).set("rate", "{site: 64k}");
    let fast_site = Site::hosts("fast", &["fast.test"], fast.address());
    let proxy = Proxy::start(front.config().site(&slow_site).site(&fast_site));
    let mut limited = front.session(&proxy, "slow.test|alice");
    let mut download = limited.begin("RETR a");
    download.read_exact(&mut [0; 4096]).expect("it goes on");
    let mut free = front.session(&proxy, "fast.test|alice");
    // At the other site's rate that would be eight minutes.
    assert_eq!(free.download("a").len(), 4_000_000);
    let line = transfer_line(&proxy, "RETR");
    assert_eq!(line.field("held_back"), None);
    let labels = "{direction=\"download\",site=\"fast\"}";
    let metric = format!("portcullis_rate_limited_seconds_total{labels}");
    assert_eq!(proxy.metric(&metric), 0.0);
}

#[test]
fn a_reload_is_for_new_sessions() {
    let file = content::bytes(8, 4_000_000);
    let stage = stage(
        Script::new().file("a", &file[..FILE]).file("b", &*file),
        SLOW,
    );
    let mut before = stage.session();
    let yaml = stage.proxy.config().to_yaml();
    stage.proxy.reload(&yaml.replace(SLOW, "{session: 800M}"));
    let mut after = stage.session();
    let (received, took) = timed(|| before.download("a"));
    assert_eq!(received, file[..FILE]);
    assert_limited(FILE, SLOW_BYTES, took);
    // At the former rate that would be forty seconds.
    assert_eq!(after.download("b"), file);
}

/// Long after its last reply to this, at the rate.
const AT_ONCE_FOR_PEOPLE: Duration = Duration::from_secs(5);

#[test]
fn abor_ends_what_is_held_back_at_once() {
    let stage = stage(endless(), "{session: 64k}");
    let mut client = stage.session();
    let mut data = client.begin("RETR a");
    data.read_exact(&mut [0; 4096]).expect("it goes on");
    let (end, took) = timed(|| {
        client.control.send("ABOR");
        let end = data.read_to_end().1;
        client.control.expect(426);
        client.control.expect(226);
        end
    });
    assert_eq!(end, End::Reset);
    assert!(took < AT_ONCE_FOR_PEOPLE, "{took:?}");
    let line = transfer_line(&stage.proxy, "RETR");
    assert_eq!(line.field("verdict").as_deref(), Some("aborted"));
    assert!(held_back(&stage.proxy, "download") > 0.0);
    // The session goes on.
    client.control.command("NOOP", 200);
}

#[test]
fn the_end_of_the_process_does_not_wait_for_what_is_held_back() {
    let mut stage = Stage::before(
        Script::new(),
        |site| site.set("rate", "{session: 64k}"),
        |config| config.timeout("drain", "300ms"),
    );
    let mut client = stage.session();
    let mut data = client.begin("STOR a");
    // Eight seconds' worth, which the kernels take at once.
    data.write_all(&content::bytes(9, 64_000))
        .expect("the proxy reads");
    let (status, took) = timed(|| {
        stage.proxy.signal(Signal::Terminate);
        assert_eq!(data.read_to_end().1, End::Reset);
        client.control.expect(421);
        drop(client);
        stage.proxy.wait_exit()
    });
    assert_eq!(status, Some(0));
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
    assert!(took < AT_ONCE_FOR_PEOPLE, "{took:?}");
}

#[test]
fn being_held_back_is_no_standstill() {
    let file = content::bytes(10, 3000);
    let stage = Stage::before(
        Script::new().file("a", &*file),
        // A piece waits for half a second where so many share so little.
        |site| site.set("rate", "{site: 64k}"),
        |config| config.timeout("data_idle", "300ms"),
    );
    let sessions: Vec<_> = (0..20).map(|_| stage.session()).collect();
    let downloading = sessions
        .into_iter()
        .map(|mut client| thread::spawn(move || client.download("a")));
    let downloading: Vec<_> = downloading.collect();
    for thread in downloading {
        assert_eq!(thread.join().expect("it is complete"), file);
    }
    assert!(held_back(&stage.proxy, "download") > 1.0);
}

#[test]
fn an_upload_that_stands_still_is_ended_all_the_same() {
    let stage = Stage::before(
        Script::new(),
        |site| site.set("rate", SLOW),
        |config| config.timeout("data_idle", "1s"),
    );
    let mut client = stage.session();
    let mut data = client.begin("STOR a");
    data.write_all(b"the first half").expect("the proxy reads");
    client.control.expect(426);
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
    let line = transfer_line(&stage.proxy, "STOR");
    assert_eq!(
        line.field("reason").as_deref(),
        Some("client data connection idle timeout")
    );
}

/// Uploads in clear text and under TLS, behind a balancer that cuts what stands still; their size, for how long they stand still
/// before they end, and the reply.
fn upload_behind_a_balancer(rate: &str, uploads: &[(usize, Duration, u16)]) {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let config = front.config().tls("required", "false");
    let site = Site::default("only", backend.address())
        .set("rate", rate)
        .set("close_notify", "optional");
    let proxy = Proxy::start(config.proxy_protocol("127.0.0.0/8").site(&site));
    let address = "203.0.113.9:40000".parse().expect("an address");
    let session = || {
        let mut client = Raw::over(balanced(proxy.explicit(), address));
        client.expect(220);
        client
    };
    let mut clear = session();
    clear.login("alice", "secret");
    let tls = front.tls(NAME);
    let mut private = session();
    private.auth_tls(&tls);
    private.login("alice", "secret");
    private.protect_data();
    for (bytes, standstill, code) in uploads {
        let content = content::bytes(12, *bytes);
        for (client, tls) in [(&mut clear, None), (&mut private, Some(&tls))] {
            let mut data = balanced(client.epsv(), address);
            client.command("STOR a", 150);
            if let Some(tls) = tls {
                protect(&mut data, tls).expect("a handshake");
            }
            data.write_all(&content).expect("the proxy reads");
            thread::sleep(*standstill);
            data.fin().expect("the proxy is there");
            client.expect(*code);
        }
    }
}

/// What arrived before that is read long after the end.
#[test]
fn behind_a_balancer_a_standstill_shows_also_while_earlier_bytes_are_held_back() {
    let long = Duration::from_millis(2_600);
    // Four and five seconds' worth, which the kernel takes at once.
    upload_behind_a_balancer(
        "{session: 64k}",
        &[
            (32_000, Duration::ZERO, 226),
            (40_000, long, 426),
            (0, Duration::ZERO, 226),
        ],
    );
}

#[test]
fn behind_a_balancer_an_upload_that_has_to_wait_for_the_rate_has_not_stood_still() {
    upload_behind_a_balancer(SLOW, &[(400_000, Duration::ZERO, 226)]);
}

/// A data connection that a balancer at the other end of this makes for a client.
fn balanced(to: SocketAddr, client: SocketAddr) -> Wire {
    let mut wire = Wire::connect(to);
    wire.write_all(&v1(client, to)).expect("the proxy accepts");
    wire
}

#[test]
fn a_real_server_is_limited_in_both_directions() {
    let server = vsftpd::start(Security::Plain);
    let front = Front::new(&[]);
    // A megabyte a second.
    let site = Site::default("only", server.address()).set("rate", "{site: 8M, session: 8M}");
    let proxy = Proxy::start(front.config().site(&site));
    let tls = front.tls(NAME);
    let mut control = Raw::connect_auth_tls(proxy.explicit(), &tls);
    control.login(server.user(), server.password());
    control.protect_data();
    control.command("TYPE I", 200);
    let mut client = Client { control, tls };
    let file = content::bytes(11, 2_000_000);
    let ((), took) = timed(|| client.upload("a", &file));
    assert_limited(file.len(), 1_000_000, took);
    let (received, took) = timed(|| client.download("a"));
    assert_limited(file.len(), 1_000_000, took);
    assert_eq!(received, file);
    assert_eq!(
        fs::read(server.root().join("a")).expect("it is there"),
        file
    );
}
