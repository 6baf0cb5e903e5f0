//! The schedules, with a clock that is advanced by hand.

use proptest::prelude::*;

use super::*;

fn rate(bits: u64) -> Rate {
    Rate::new(bits).unwrap()
}

/// Limits of the site, in bits a second.
fn of_site(bits: u64) -> Rates {
    Rates {
        site: Some(rate(bits)),
        session: None,
    }
}

/// Sessions of one site that each transfer without end.
struct Scene {
    start: Instant,
    now: Instant,
    site: Arc<SiteBandwidth>,
    transfers: Vec<Running>,
}

struct Running {
    bandwidth: TransferBandwidth,
    /// The bytes it has entered, and when they may be moved.
    next: Option<(usize, Instant)>,
    /// How late its timers are.
    late: Duration,
    /// The longest time that a byte has taken.
    slowest: Duration,
    moved: u64,
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(3600);
        Self {
            start: now,
            now,
            site: Arc::default(),
            transfers: Vec::new(),
        }
    }

    fn with(mut self, count: usize, rates: Rates) -> Self {
        for _ in 0..count {
            self.begin(rates, Direction::Download, Duration::from_millis(1));
        }
        self
    }

    fn begin(&mut self, rates: Rates, direction: Direction, late: Duration) {
        let (site, session) = (Arc::clone(&self.site), Arc::default());
        self.transfers.push(Running {
            bandwidth: TransferBandwidth::new(rates, direction, site, session),
            next: None,
            late,
            slowest: Duration::ZERO,
            moved: 0,
        });
    }

    /// Lets each move what it may, for this time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for transfer in &mut self.transfers {
                if transfer.next.is_none() {
                    let piece = transfer.bandwidth.piece();
                    let wait = transfer.bandwidth.enter(piece, self.now);
                    let late = if wait.is_zero() {
                        Duration::ZERO
                    } else {
                        transfer.late
                    };
                    transfer.next = Some((piece, self.now + wait + late));
                    let each = wait / u32::try_from(piece).unwrap();
                    transfer.slowest = transfer.slowest.max(each);
                }
            }
            let first = self
                .transfers
                .iter_mut()
                .min_by_key(|it| it.next.unwrap().1);
            let first = first.unwrap();
            let (piece, at) = first.next.unwrap();
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            first.next = None;
            first.moved += piece as u64;
        }
        self.now = end;
    }

    fn moved(&self) -> u64 {
        self.transfers.iter().map(|it| it.moved).sum()
    }

    /// Forgets what has been moved so far.
    fn count_anew(&mut self) {
        self.start = self.now;
        for transfer in &mut self.transfers {
            transfer.moved = 0;
        }
    }

    #[track_caller]
    fn assert_about(&self, bytes: u64, expected: u64) {
        let within = expected * 9 / 10..=expected * 11 / 10;
        assert!(within.contains(&bytes), "{bytes} instead of {expected}");
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn one_transfer_gets_all_of_the_rate_also_with_late_timers() {
    for bits in [64_000, 1_000_000, 50_000_000, 1_000_000_000, 10_000_000_000] {
        let mut scene = Scene::new().with(1, of_site(bits));
        scene.pass(Duration::from_secs(5));
        scene.assert_about(scene.moved(), bits / 8 * 5);
    }
}

#[test]
fn many_share_the_rate_in_equal_parts() {
    let mut scene = Scene::new().with(20, of_site(8_000_000));
    scene.pass(MINUTE);
    scene.assert_about(scene.moved(), 60_000_000);
    for transfer in &scene.transfers {
        scene.assert_about(transfer.moved, 3_000_000);
    }
}

#[test]
fn one_that_comes_later_gets_its_share_at_once() {
    let mut scene = Scene::new().with(3, of_site(8_000_000));
    scene.pass(MINUTE);
    scene.begin(
        of_site(8_000_000),
        Direction::Listing,
        Duration::from_millis(1),
    );
    scene.count_anew();
    scene.pass(Duration::from_secs(2));
    scene.assert_about(scene.transfers[3].moved, 500_000);
}

#[test]
fn what_one_leaves_goes_to_the_others() {
    let slow = Rates {
        session: Some(rate(800_000)),
        ..of_site(8_000_000)
    };
    let mut scene = Scene::new().with(1, slow).with(2, of_site(8_000_000));
    scene.pass(MINUTE);
    scene.assert_about(scene.transfers[0].moved, 6_000_000);
    scene.assert_about(scene.transfers[1].moved, 27_000_000);
    scene.assert_about(scene.transfers[2].moved, 27_000_000);

    // One that has ended leaves all of its share.
    scene.transfers.truncate(2);
    scene.count_anew();
    scene.pass(MINUTE);
    scene.assert_about(scene.transfers[1].moved, 54_000_000);
}

#[test]
fn the_directions_do_not_share() {
    let mut scene = Scene::new().with(1, of_site(8_000_000));
    scene.begin(of_site(8_000_000), Direction::Upload, Duration::ZERO);
    scene.pass(MINUTE);
    for transfer in &scene.transfers {
        scene.assert_about(transfer.moved, 60_000_000);
    }
}

#[test]
fn each_gets_the_floor_where_the_rate_is_too_low_for_all() {
    let mut scene = Scene::new().with(1000, of_site(64_000));
    scene.pass(MINUTE);
    for transfer in &scene.transfers {
        scene.assert_about(transfer.moved, 60 * FLOOR);
        assert!(transfer.slowest <= Duration::from_secs(1) / u32::try_from(FLOOR).unwrap());
    }
    // No debt is left behind.
    scene.transfers.truncate(1);
    scene.pass(Duration::from_secs(1));
    scene.count_anew();
    scene.pass(MINUTE);
    scene.assert_about(scene.moved(), 60 * 8_000);
}

#[test]
fn a_bucket_that_was_idle_lets_an_eighth_of_a_second_through_at_once() {
    let bandwidth = Scene::new().with(1, of_site(8_000_000));
    let transfer = &bandwidth.transfers[0].bandwidth;
    let mut at_once = 0;
    while transfer.enter(1000, bandwidth.now).is_zero() {
        at_once += 1000;
    }
    bandwidth.assert_about(at_once, 125_000);
    // No more after an hour.
    let later = bandwidth.now + Duration::from_secs(3600);
    let mut at_once = 0;
    while transfer.enter(1000, later).is_zero() {
        at_once += 1000;
    }
    bandwidth.assert_about(at_once, 125_000);
}

#[test]
fn many_small_transfers_of_a_session_are_as_slow_as_a_large_one() {
    let rates = Rates {
        site: None,
        session: Some(rate(80_000)),
    };
    let (site, session) = (Arc::default(), Arc::default());
    let start = Instant::now() + MINUTE;
    let mut now = start;
    for _ in 0..100 {
        let (site, session) = (Arc::clone(&site), Arc::clone(&session));
        let transfer = TransferBandwidth::new(rates, Direction::Upload, site, session);
        now += transfer.enter(1000, now);
    }
    let took = now - start;
    assert!(took >= Duration::from_millis(9_700), "{took:?}");
    assert!(took <= Duration::from_millis(10_000), "{took:?}");
}

#[test]
fn a_new_rate_is_that_of_its_own_sessions_alone() {
    let mut scene = Scene::new()
        .with(1, of_site(800_000))
        .with(1, of_site(8_000_000));
    scene.pass(MINUTE);
    // Each has half of the time, at its own rate.
    scene.assert_about(scene.transfers[0].moved, 3_000_000);
    scene.assert_about(scene.transfers[1].moved, 30_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_rate_is_exceeded_beyond_burst_and_floor_and_no_share_is_far_from_the_others(
        bits in Rate::LOWEST..10_000_000,
        count in 1..40_usize,
        late in prop::collection::vec(0..5_u64, 40),
    ) {
        let mut scene = Scene::new();
        for late in &late[..count] {
            scene.begin(of_site(bits), Direction::Upload, Duration::from_millis(*late));
        }
        let seconds = 20;
        scene.pass(Duration::from_secs(seconds));
        let floor = FLOOR * count as u64;
        let most = (bits / 8).max(floor) * seconds;
        // What waits is entered once for each.
        let burst = bits / 8 / 2 + count as u64 * SMALLEST_PIECE;
        prop_assert!(scene.moved() <= most + burst, "{} > {most}", scene.moved());
        let shares = scene.transfers.iter().map(|it| it.moved);
        let (least, most) = (shares.clone().min().unwrap(), shares.max().unwrap());
        prop_assert!(least * 4 >= most * 3, "{least} and {most}");
    }

    #[test]
    fn nothing_overflows(
        bits in Rate::LOWEST..=Rate::HIGHEST,
        bytes in any::<usize>(),
        seconds in 0..u64::from(u32::MAX),
    ) {
        let scene = Scene::new().with(1, of_site(bits));
        let transfer = &scene.transfers[0].bandwidth;
        for now in [scene.now, scene.now + Duration::from_secs(seconds), scene.now] {
            let wait = transfer.enter(bytes, now);
            prop_assert!(transfer.piece() > 0 && wait <= FURTHEST + Duration::from_secs(seconds));
        }
    }
}
